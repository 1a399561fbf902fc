"""The standard way: spans and log records through the SDK's own providers, batch processors and OTLP exporters."""
