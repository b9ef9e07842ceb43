# Nothing for Python: other compiled modules use it through its .pxd.
