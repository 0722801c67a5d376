"""The console's pages that are no list of rows: the front page, and what is done from there."""
