"""What every API of the server shares: errors, pages, keys in paths, fields, routes and their description."""
