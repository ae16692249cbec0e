"""The web page and the HTTP API of `foveate serve`.

service.py answers videos and knows nothing of HTTP; api.py has the routes; guard.py is what every request
passes first; connections.py runs the server and ends it.
"""
