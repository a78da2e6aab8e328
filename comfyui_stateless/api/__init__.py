"""The HTTP edge: from requests to jobs, and from results and errors to responses."""
