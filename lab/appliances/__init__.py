"""Appliances to put behind a gateway load balancer, and to copy: programs of an instance, standard library only."""
