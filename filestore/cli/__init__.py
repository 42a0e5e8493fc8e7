"""The command line ``filestore``: thin over the SDK and the services."""
