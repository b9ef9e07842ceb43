"""The lab: namespaces, devices and programs on this machine, and the daemon that runs them behind a worker."""
