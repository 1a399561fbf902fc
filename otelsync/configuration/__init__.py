"""Configuration: settings become a recorder, logging and a shipper, once a process, and can be undone."""
