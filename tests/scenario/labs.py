"""Lab files that several scenarios share. Addresses are from RFC 5737 and RFC 3849 where they are public."""

# VPC shop (public and private subnet, NAT gateway, internet gateway) peered with store; two internet hosts.
SHOP = """
version: 1
name: shop
vpcs:
  shop:
    cidr: 10.0.0.0/16
    ipv6_cidrs: ["2001:db8:10::/56"]
    internet_gateway: {}
    subnets:
      public: {cidr: 10.0.1.0/24, ipv6_cidr: "2001:db8:10:1::/64", availability_zone: a, route_table: public}
      private: {cidr: 10.0.2.0/24, ipv6_cidr: "2001:db8:10:2::/64", availability_zone: b, route_table: private}
    route_tables:
      public:
        routes:
          - {destination: 0.0.0.0/0, target: internet-gateway}
          - {destination: "::/0", target: internet-gateway}
          - {destination: 10.1.0.0/16, target: "peering:shop-store"}
      private:
        routes:
          - {destination: 0.0.0.0/0, target: "nat-gateway:nat"}
          - {destination: 10.1.0.0/16, target: "peering:shop-store"}
          - {destination: 198.51.100.128/25, target: blackhole}
    security_groups:
      open:
        description: everything in, everything out
        ingress: [{protocol: all, source: 0.0.0.0/0}, {protocol: all, source: "::/0"}]
      web:
        description: web from anywhere, ping from the app
        ingress: [{protocol: tcp, ports: 80, source: 0.0.0.0/0}, {protocol: icmp, source: "group:app"}]
      app:
        description: nothing in
        ingress: []
    nat_gateways:
      nat: {subnet: public, elastic_ip: 203.0.113.10, private_ip: 10.0.1.5}
  store:
    cidr: 10.1.0.0/16
    subnets:
      data: {cidr: 10.1.1.0/24, availability_zone: a, route_table: data}
    route_tables:
      data: {routes: [{destination: 10.0.0.0/16, target: "peering:shop-store"}]}
    security_groups:
      db:
        description: ping and the database from the peer
        ingress: [{protocol: icmp, source: 10.0.0.0/16}, {protocol: tcp, ports: 5432, source: "group:shop/app"}]
peerings:
  shop-store: {requester: shop, accepter: store, status: active}
instances:
  web: {vpc: shop, subnet: public, private_ip: 10.0.1.10, ipv6_address: "2001:db8:10:1::10", elastic_ip: 203.0.113.20,
    security_groups: [web]}
  bare: {vpc: shop, subnet: public, private_ip: 10.0.1.11, ipv6_address: "2001:db8:10:1::11", security_groups: [open]}
  app: {vpc: shop, subnet: private, private_ip: 10.0.2.10, ipv6_address: "2001:db8:10:2::10", security_groups: [app]}
  open: {vpc: shop, subnet: private, private_ip: 10.0.2.11, ipv6_address: "2001:db8:10:2::11", security_groups: [open]}
  db: {vpc: store, subnet: data, private_ip: 10.1.1.10, security_groups: [db]}
internet:
  hosts:
    example: {address: 198.51.100.10, ipv6_address: "2001:db8:99::10"}
    visitor: {address: 198.51.100.77, ipv6_address: "2001:db8:99::77"}
"""

MAZE = """\
  maze:
    cidr: 10.9.0.0/16
    subnets: {one: {cidr: 10.9.1.0/24, route_table: one}, two: {cidr: 10.9.2.0/24, route_table: two}}
    route_tables:
      one: {routes: [{destination: 0.0.0.0/0, target: "nat-gateway:two"}]}
      two: {routes: [{destination: 0.0.0.0/0, target: "nat-gateway:one"}]}
    nat_gateways: {one: {subnet: one, connectivity: private}, two: {subnet: two, connectivity: private}}
"""
"""A VPC, to be put among others: two NAT gateways that lead to each other, so that a packet changes more and more."""
