"""The server's own database, backed up by the server: where to and when (`keeping`), how it is dumped and loaded (`dumping`)."""
