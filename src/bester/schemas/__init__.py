"""JSON Schemas of types, for people and programs: their fields, AsyncAPI documents, what breaks a client."""
