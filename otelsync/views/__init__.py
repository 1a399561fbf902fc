"""Views: what people look at, made from the local store alone."""
