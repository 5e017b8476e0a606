"""The firmware of a Raspberry Pi that boots from the network, as far as DHCP and TFTP go.

How it asks is what raspberrypi.com/documentation tells of each model ("Network booting", "Raspberry Pi boot EEPROM"), and what
dnsmasq is told to expect by its users. It prints what it got: one line for each file.

    eeprom.py MODEL INTERFACE SERIAL [PATH...]

MODEL is 3, 4 or 5. Further paths are asked for at last, as they are.
"""

import hashlib
import os
import random
import socket
import struct
import sys
import time

MODEL, INTERFACE, SERIAL = sys.argv[1:4]
MORE = sys.argv[4:]
MAC = bytes.fromhex(open(f"/sys/class/net/{INTERFACE}/address").read().strip().replace(":", ""))
TRIES = 5


def dhcp(kind, options):
    header = struct.pack("!BBBBIHH4s4s4s4s16s192s", 1, 1, 6, 0, XID, 0, 0x8000, b"", b"", b"", b"", MAC, b"")
    body = b"\x63\x82\x53\x63" + bytes([53, 1, kind])
    for code, value in options:
        body += bytes([code, len(value)]) + value
    return header + body + b"\xff"


def parse(packet):
    """Address, next server and options of an answer to this client; None of anything else."""
    if len(packet) < 240 or packet[0] != 2 or struct.unpack("!I", packet[4:8])[0] != XID:
        return None
    options, at = {}, 240
    while at < len(packet) and packet[at] != 255:
        if packet[at] == 0:
            at += 1
            continue
        options[packet[at]] = packet[at + 2 : at + 2 + packet[at + 1]]
        at += 2 + packet[at + 1]
    return socket.inet_ntoa(packet[16:20]), socket.inet_ntoa(packet[20:24]), options


XID = random.getrandbits(32)
# What all models say of themselves.
ASK = [
    (55, bytes([1, 3, 43, 60, 66, 67, 128, 129, 130, 131, 132, 133, 134, 135])),
    (93, b"\x00\x00"),
    (94, b"\x01\x02\x01"),
    (97, b"\x00" + b"RPi4" + bytes(12)),
    (60, b"PXEClient:Arch:00000:UNDI:002001"),
]

link = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
link.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, INTERFACE.encode())
link.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
link.bind(("0.0.0.0", 68))


def offers():
    """Asks as long as there is no address and nobody to boot from."""
    address = server = None
    for _ in range(TRIES):
        link.sendto(dhcp(1, ASK), ("255.255.255.255", 67))
        until = time.time() + 4
        while time.time() < until and not (address and server):
            link.settimeout(max(until - time.time(), 0.01))
            try:
                packet, (who, _) = link.recvfrom(2048)
            except TimeoutError:
                break
            answer = parse(packet)
            if not answer:
                continue
            mine, following, options = answer
            if mine != "0.0.0.0":
                address = mine, options[54], options.get(1)
            # It boots from who says these words, in option 43.
            if b"Raspberry Pi Boot" in options.get(43, b"") and options.get(60, b"").startswith(b"PXEClient"):
                server = following if following != "0.0.0.0" else socket.inet_ntoa(options[54])
        if address and server:
            return address, server
    return address, server


address, server = offers()
print("address", address[0] if address else "none", flush=True)
print("server", server or "none", flush=True)
if not address or not server:
    sys.exit(1)
link.sendto(dhcp(3, ASK + [(50, socket.inet_aton(address[0])), (54, address[1])]), ("255.255.255.255", 67))
link.settimeout(5)
while True:
    answer = parse(link.recvfrom(2048)[0])
    if answer and answer[2].get(53) == b"\x05":
        break
os.system(f"ip address add {address[0]}/24 dev {INTERFACE}")


def tftp(path):
    """The bytes of a file, or None: RFC 1350, with the options that the model uses (RFC 2348, 2349)."""
    # The boot ROM of a Pi 3 knows no options.
    size = 512 if MODEL == "3" else 1024
    request = b"\0\1" + path.encode() + b"\0octet\0"
    if MODEL != "3":
        request += b"tsize\x000\0blksize\x00%d\0" % size
    data = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    data.settimeout(2)
    data.bind((address[0], 0))
    content, expected, to = b"", 1, (server, 69)
    message = request
    for _ in range(TRIES):
        data.sendto(message, to)
        try:
            while True:
                packet, to = data.recvfrom(65536)
                kind, number = struct.unpack("!HH", packet[:4])
                if kind == 5:
                    return None
                if kind == 6:
                    message = b"\0\4\0\0"
                    data.sendto(message, to)
                elif kind == 3 and number == expected & 0xFFFF:
                    content += packet[4:]
                    message = struct.pack("!HH", 4, number)
                    data.sendto(message, to)
                    expected += 1
                    if len(packet) < 4 + size:
                        return content
        except TimeoutError:
            continue
    return None


def take(path, must=True):
    content = tftp(path)
    if content is None:
        print("missing", path, flush=True)
        if must:
            sys.exit(1)
        return b""
    print("got", path, len(content), hashlib.sha256(content).hexdigest(), flush=True)
    return content


if MODEL == "3":
    take("bootcode.bin")
first = {"3": "start.elf", "4": "start4.elf", "5": "config.txt"}[MODEL]
# If the first file is there below the serial number, all are asked for there.
time.sleep(0.3)
below = f"{SERIAL}/" if take(f"{SERIAL}/{first}", must=False) else ""
if not below:
    take(first)
time.sleep(0.3)
# It asks for it again when it starts its next part.
below = f"{SERIAL}/" if take(f"{SERIAL}/{first}", must=False) else ""
config = take(f"{below}config.txt").decode()
if MODEL != "5":
    take(below + {"3": "fixup.dat", "4": "fixup4.dat"}[MODEL])
print("cmdline", take(f"{below}cmdline.txt").decode().strip(), flush=True)
take(below + {"3": "bcm2710-rpi-3-b.dtb", "4": "bcm2711-rpi-4-b.dtb", "5": "bcm2712-rpi-5-b.dtb"}[MODEL])
take(below + "overlays/overlay_map.dtb", must=False)
take(below + {"3": "kernel8.img", "4": "kernel8.img", "5": "kernel_2712.img"}[MODEL])
for line in config.splitlines():
    words = line.split()
    if words[:1] == ["initramfs"]:
        take(below + words[1])
for path in MORE:
    take(path, must=False)
