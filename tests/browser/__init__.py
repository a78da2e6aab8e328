"""Tests in a browser; a package, so that the browser is gone when the next folder begins."""
