"""The lessons, in the order in which to take them."""

from __future__ import annotations

from vpclab.learn.lesson import Lesson, Task


def _paragraph(text: str) -> str:
    return " ".join(text.split())


def _paragraphs(text: str) -> tuple[str, ...]:
    return tuple(_paragraph(each) for each in text.strip().split("\n\n"))


LESSONS = (
    Lesson(
        name="missing-route",
        hints=_paragraphs("""
            Ask the network itself: `vpclab trace app mirror` follows a packet without sending one. The last line says
            where it dies, and of what.

            `vpclab routes shop/private` shows where packets that leave app's subnet can go.

            A NAT gateway is used by whoever has a route to it. Being in the VPC is not enough.

            The table `private` needs a route for everything, 0.0.0.0/0, to the NAT gateway.
        """),
        why=_paragraph("""
            A subnet is private or public because of its route table alone. A packet whose destination no route covers
            dies where it leaves the subnet, before any gateway could see it; nobody is told, so programs wait.
        """),
    ),
    Lesson(
        name="closed-ephemeral-ports",
        hints=_paragraphs("""
            The request arrives, so look at the answer: `vpclab check` follows both.

            A security group remembers whom it let in. Does a network ACL?

            The answer goes to the port that the visitor's kernel has chosen, not to port 80: `vpclab trace visitor web`
            shows which.

            Let TCP to the ports 1024-65535 out of the subnet: one more egress rule of the network ACL `edge`.
        """),
        why=_paragraph("""
            Network ACLs are stateless: an answer is one more packet and needs a rule of its own. It goes to an
            ephemeral port of the client, and clients differ (Linux 32768-60999, NAT gateways 1024-65535), so a public
            server lets 1024-65535 out. Rules for ports 80 and 443 going out would serve a client, not a server.
        """),
    ),
    Lesson(
        name="wrong-group",
        hints=_paragraphs("""
            `vpclab trace app db --port 5432` says whose rules were looked at in vain.

            It names a group. Is that the one you expected at db?

            A group's rules hold for the interfaces that carry the group, and for no others. `db` is carried by nobody.

            In the lab file, see `security_groups` of the instance db.
        """),
        why=_paragraph("""
            db was built from the template of a web server and carries the group `web`. The group `db` was right all the
            time, and of no use. The other check that fails is the dangerous half: whatever `web` lets in reached db.
        """),
    ),
    Lesson(
        name="group-through-nat",
        hints=_paragraphs("""
            `vpclab check` shows the way of the packet. Which gateways translate it?

            Which source address does api see? Compare with the way to the private address: `vpclab trace app
            10.0.1.10`.

            A rule that names a group matches packets by the interface they come from. After a NAT gateway, that is the
            gateway's, which carries no group.

            Let in the address that api does see, 203.0.113.10, by one more ingress rule. (Or have app use the private
            address; but that is not what this lab's checks ask for.)
        """),
        why=_paragraph("""
            The public address leads out to the internet and back in. On that way the NAT gateway replaces app's
            address, and with it what app was: a rule with a group as its source means interfaces of that group, by
            their private addresses. Only the Elastic IP address of the NAT gateway is left to write a rule for.
        """),
    ),
    Lesson(
        name="no-public-address",
        hints=_paragraphs("""
            `vpclab trace web mirror` gets as far as the internet gateway. What does it miss?

            An internet gateway translates one to one. It has no address to share, as a NAT gateway has.

            `vpclab status` shows private and public addresses of each interface.

            Give the instance web the address that everybody knows it by: `elastic_ip: 203.0.113.20`.
        """),
        why=_paragraph("""
            A route to the internet gateway is half of it. The gateway only swaps an interface's private address for its
            public one and back; what has none is dropped in both directions. Subnets that assign public addresses
            themselves (`map_public_ip_on_launch`) do so at launch, to whichever instance comes up.
        """),
    ),
    Lesson(
        name="nat-in-private-subnet",
        hints=_paragraphs("""
            `vpclab trace app mirror` shows the packet at the NAT gateway. Where does it go from there?

            What leaves a NAT gateway leaves from the gateway's own subnet, and by that subnet's route table.

            Here that table leads back to the NAT gateway: a loop.

            A public NAT gateway belongs into a subnet whose table leads to the internet gateway. See `nat_gateways`.
        """),
        why=_paragraph("""
            A NAT gateway changes addresses and then sends the packet on like any interface of its subnet would. Its
            Elastic IP address is only used by the internet gateway, so a route to that one must be there, and must not
            be the route by which the packet came.
        """),
    ),
    Lesson(
        name="one-sided-peering",
        hints=_paragraphs("""
            app's packets arrive. Which packet does not?

            `vpclab check` shows where the answer dies.

            A peering connects two VPCs; it writes no routes, on neither side.

            The table `data` of store needs a route to 10.0.0.0/16 with the peering as its target.
        """),
        why=_paragraph("""
            Routes say where packets go, not where they may come from. What comes over a peering is delivered without
            any route of the accepter; its answer is not. So both sides' tables need the other's block.
        """),
    ),
    Lesson(
        name="edge-to-edge",
        hints=_paragraphs("""
            `vpclab trace desk mirror` names what drops the packet.

            A peering carries packets between the addresses of its two VPCs. Is 198.51.100.10 one of them?

            Gateways of a peer (internet gateway, NAT gateway, VPN, gateway endpoints) are for that peer alone: no
            edge-to-edge routing. No route and no rule changes that.

            branch needs a way of its own: an internet gateway, a route to it in place of the one to the peering, and an
            address for desk (203.0.113.21 is free). Or you have desk use a proxy; but these checks want a way.
        """),
        why=_paragraph("""
            AWS does not route through a VPC for others: over a peering goes what is for the peer's own addresses. Use a
            gateway of one's own, a proxy or another program in the peer, or a transit gateway, which is made for this.
        """),
    ),
    Lesson(
        name="source-dest-check",
        hints=_paragraphs("""
            `vpclab trace app db --port 5432` leads to fw, and no further.

            The route is right, fw's group lets it in, and yet its kernel sees nothing. What stands between the two?

            AWS drops what is neither from nor for the address of an interface, unless told that this is what it is for.

            The instance fw needs `source_dest_check: false`.
        """),
        why=_paragraph("""
            Every interface checks that it is source or destination of what it sends and gets. Routers, firewalls and
            NAT instances are neither, so the check must be off for them. It is off per interface, and nothing else says
            so: the route is active, the instance runs, and packets end without a trace on it.
        """),
    ),
    Lesson(
        name="packet-too-big",
        hints=_paragraphs("""
            It is the size. `vpclab trace app vault --proto udp --port 9000 --size 100` passes; try `--size 8800`.

            app's interface sends up to 9001 bytes, a NAT gateway carries 8500. A packet that may not be cut (DF) is
            dropped there, and the gateway says so to its sender: ICMP, type 3, code 4. Does app hear it?

            The trace says that the error was due and did not get through. Which filter stands between the NAT gateway
            and app? `vpclab check` fails at the same one.

            Let ICMP into the subnet `apps`: one more ingress rule of its network ACL, from 10.0.0.0/8.
        """),
        why=_paragraph("""
            Senders find out how large packets may be by sending large ones and listening for the ICMP errors (path MTU
            discovery). A network ACL does not know that an error belongs to a flow, so without a rule for ICMP the
            sender never hears, and sends the same large packet again and again: a black hole. Type 3 code 4 alone would
            do for that; the check here also wants the ping to be answered. TCP would not have hung here: a NAT gateway
            lowers the segment size that both ends agree on (MSS clamping). For UDP nobody does, and an internet gateway
            does it for nobody.
        """),
        task=Task(
            node="app",
            command=("sh", "-c", "head -c 8800 /dev/zero | curl -sSf -m 5 --data-binary @- http://127.0.0.1:8000/"),
            limit_s=60.0,
        ),
    ),
)


def find(word: str) -> Lesson | None:
    """The lesson of a name, or of a number from 1."""
    for number, lesson in enumerate(LESSONS, start=1):
        if word in (lesson.name, str(number)):
            return lesson
    return None
