"""OTLP: encoding to bytes, decoding, and sending over http and grpc."""
