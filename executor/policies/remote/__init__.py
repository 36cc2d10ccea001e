"""Policies that run elsewhere: openpi's websocket protocol, client and server. Importing this loads neither."""
