"""What Prometheus reads: counts, times and sizes of the running server."""
