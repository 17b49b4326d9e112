"""The resuming downloader for files on web servers."""
