"""The wire messages, compiled. See model_server.proto for the command; nothing else may be written here."""
