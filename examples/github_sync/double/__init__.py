"""A GitHub-shaped server on loopback, for want of api.github.com: real recordings, real rules, planned faults."""
