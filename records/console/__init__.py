"""The console's pages of the history that are no list of rows: looking into a backup, and finding a file in all of them."""
