"""A fleet that is not there: a real server, a database filled by bulk, and agents that speak the real protocol without working."""
