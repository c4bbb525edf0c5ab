"""Addresses that must never be reached, in every spelling that somebody has tried, and names that change their mind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tests.unit.outbound_support import PUBLIC

# Hosts of a URL, by what they try. Each is given to the system's own resolver, as it stands.
HOSTS: Mapping[str, Sequence[str]] = {
    name: tuple(words.split())
    for name, words in {
        "loopback": """127.0.0.1 127.0.0.1. 127.0.0.2 127.255.255.254 localhost localhost. LOCALHOST
            localhost.localdomain localhost6 ip6-localhost 0.0.0.0 0.1.2.3 [::1] [::] [0:0:0:0:0:0:0:1]
            [0000:0000:0000:0000:0000:0000:0000:0001] [::2] [0:0:0:0:0:0:0:0]""",
        "short, octal, hexadecimal, decimal": """127.1 127.0.1 0 00 0x0 0.0 0x7f000001 0X7F000001 0x7f.0.0.1 0x7F.1
            0x7f.0x0.0x0.0x1 0177.0.0.1 0177.1 017700000001 00000177.0.0.1 127.000.000.001 2130706433 012.0.0.1
            0300.0250.1.1 3232235777 0xc0a80101 0251.0376.0251.0376 0xa9fea9fe 2852039166 169.254.43518
            0xa9.0xfe.43518""",
        "private networks": """10.0.0.1 10.255.255.255 172.16.0.1 172.31.255.255 192.168.1.1 100.64.0.1 100.127.255.255
            169.254.1.1 192.0.0.8 192.0.2.1 198.18.0.1 198.19.255.255 198.51.100.7 203.0.113.9 192.88.99.1 224.0.0.1
            239.255.255.250 240.0.0.1 255.255.255.255 [fc00::1] [fdff::1] [fe80::1] [febf::1] [fec0::1] [ff02::1]
            [ff0e::1] [2001:db8::1] [3fff::1] [5f00::1] [100::1] [2001:20::1]""",
        "metadata of clouds": """169.254.169.254 169.254.170.2 169.254.170.23 169.254.0.23 169.254.42.42 100.100.100.200
            168.63.129.16 192.0.0.192 [fd00:ec2::254] [fd00:ec2::23] [fd20:ce::254] [fe80::a9fe:a9fe]""",
        "IPv4 in IPv6": """[::127.0.0.1] [::7f00:1] [::ffff:127.0.0.1] [::FFFF:127.0.0.1] [::ffff:7f00:1]
            [::ffff:7f00:0001]
            [0:0:0:0:0:ffff:127.0.0.1] [::ffff:0.0.0.0] [::ffff:10.0.0.1] [::ffff:169.254.169.254] [::ffff:a9fe:a9fe]
            [::ffff:0:127.0.0.1] [::ffff:0:7f00:1] [::ffff:0:a00:1] [64:ff9b::127.0.0.1] [64:ff9b::7f00:1]
            [64:ff9b::10.0.0.1] [64:ff9b::a9fe:a9fe] [64:ff9b:1::7f00:1] [64:ff9b:1:ffff::a00:1] [2002:7f00:1::]
            [2002:7f00:1::1] [2002:a00:1::1] [2002:c0a8:101::1] [2002:a9fe:a9fe::] [2001:0:5ef5:79fd:0:59d:a000:1]
            [2001:0:7f00:1::] [fe80::5efe:7f00:1] [fe80::200:5efe:7f00:1] [2a00:1450::5efe:7f00:1]
            [2a00:1450::200:5efe:a00:1] [2a00:1450::5efe:a9fe:a9fe]""",
        "zones": "[::1%lo] [::1%25lo] [fe80::1%lo] [fe80::1%25lo] [fe80::a9fe:a9fe%251] [::ffff:127.0.0.1%25lo]",
        "letters that are made alike": """127。0。0。1 127．0．0．1 127｡0｡0｡1 １２７.０.０.１ １２７。０。０。１
            ①②⑦.⓪.⓪.① ⓛocalhost ⓛⓞⓒⓐⓛⓗⓞⓢⓣ
            ｌｏｃａｌｈｏｓｔ localhoſt 𝟙𝟚𝟟.𝟘.𝟘.𝟙 loc\u00adalhost 127.0.0.1\u200b xn--127.0.0.1 127.0.0.１""",
        "escapes": """%31%32%37.0.0.1 127%2e0%2e0%2e1 %6c%6f%63%61%6c%68%6f%73%74 127.0.0.1%00.public.test 127.0.0.1%09
            public.test%00@127.0.0.1 127.0.0.1%23.public.test 127.0.0.1%2f.public.test""",
    }.items()
}

# Whole URLs, for their form. `public.test` is at a public address; what tries to be read as that is not.
URLS: Sequence[str] = (
    *(f"{scheme}://public.test/" for scheme in ("http", "HTTP", "ftp", "gopher", "ws", "dict", "ldap", "tftp", "sftp")),
    "file:///etc/passwd",
    "file://localhost/etc/passwd",
    "unix:///run/docker.sock",
    "http+unix://%2Frun%2Fdocker.sock/",
    "data:image/png;base64,AAAA",
    "javascript:alert(1)",
    "jar:https://public.test!/",
    "//public.test/",
    "https:///public.test",
    "https:public.test",
    "https:/public.test",
    "public.test",
    "",
    "https://",
    "https://./",
    "https://user@public.test/",
    "https://user:password@public.test/",
    "https://:password@public.test/",
    "https://@public.test/",
    "https://public.test@127.0.0.1/",
    "https://public.test:443@127.0.0.1/",
    "https://public.test%40127.0.0.1/",
    "https://public.test\\@127.0.0.1/",
    "https://127.0.0.1\\@public.test/",
    "https://127.0.0.1\\.public.test/",
    "https:\\\\127.0.0.1\\",
    "https://127.0.0.1:80\\@public.test:443/",
    "https://public.test:22/",
    "https://public.test:8443/",
    "https://public.test:6379/",
    "https://public.test:65536/",
    "https://public.test:-1/",
    "https://public.test:http/",
    "https://public.test:443:80/",
    "https://public.test:0/",
    "https://[::1/",
    "https://::1/",
    "https://[::1]]/",
    "https://[::1].public.test/",
    "https://[127.0.0.1]/",
    "https://[::ffff:127.0.0.1%25eth0]/",
    "https://[v1.fe]/",
    "https://127.0.0.1\t/",
    "ht\ntps://127.0.0.1/",
    " https://127.0.0.1/",
    "https://127.0.0.1\x00/",
    "https://127.0.0.1\r\nHost: public.test/",
    "https://127.0.0.1 public.test/",
    "https://public.test\n.intern.test/",
    "https://intern.test/",
    "https://INTERN.test/",
    "https://intern.test./",
    "https://metadata.google.internal/",
    "https://" + "a" * 64 + ".test/",
    "https://" + "a." * 200 + "test/",
    "https://public.test/\ud800",
    "https://public.test/" + "a" * 100_000,
)

# Names, and what a resolver answers, time after time.
NAMES: Mapping[str, Sequence[Sequence[str]]] = {
    "rebinding.test": ([PUBLIC], ["127.0.0.1"]),
    "rebinding-back.test": (["127.0.0.1"], [PUBLIC]),
    "rebinding-six.test": ([PUBLIC], ["::1"], ["::ffff:127.0.0.1"], ["64:ff9b::7f00:1"]),
    "mixed.test": ([PUBLIC, "127.0.0.1"],),
    "mixed-behind.test": ([PUBLIC] * 7 + ["169.254.169.254"],),
    "mixed-six.test": (["::1", PUBLIC],),
    "zone.test": ([PUBLIC, "fe80::1%eth0"],),
    "alias-of-intern.test": (["10.0.0.7"],),
    "127.0.0.1.wildcard.test": (["127.0.0.1"],),
    "metadata.google.internal": (["169.254.169.254"],),
    "instance-data.ec2.internal": (["169.254.169.254"],),
    "kubernetes.default.svc": (["10.96.0.1"],),
    "host.docker.internal": (["192.168.65.2"],),
    "nothing.test": ([],),
    "nonsense.test": (["no address"],),
    "short.test": (["127.1"],),
    "empty.test": ([""],),
}

# Where a redirect may want to lead.
TARGETS: Sequence[str] = (
    "https://127.0.0.1/",
    "https://[::1]/",
    "https://[::ffff:7f00:1]/",
    "https://2130706433/",
    "https://localhost/",
    "https://169.254.169.254/latest/meta-data/",
    "https://intern.test/",
    "https://rebinding-back.test/",
    "http://public.test/",
    "//127.0.0.1/",
    "https://public.test:6379/",
    "https://key:secret@public.test/",
    "https://public.test@127.0.0.1/",
    "file:///etc/passwd",
    "gopher://127.0.0.1:6379/_FLUSHALL",
    "ftp://127.0.0.1/",
    "data:text/html,hello",
    "https://[::1/",
    "https://127.0.0.1\x00/",
)


def spellings() -> list[str]:
    """Every host, all lists together."""
    return [host for hosts in HOSTS.values() for host in hosts]
