//! Addresses that no seller may have, in every spelling that somebody may take for another.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What the spellings of IPv4 are tried on: this machine, a private network, the clouds' metadata.
const SPELLED: [Ipv4Addr; 5] = [
    Ipv4Addr::LOCALHOST,
    Ipv4Addr::new(10, 0, 0, 1),
    Ipv4Addr::new(169, 254, 169, 254),
    Ipv4Addr::new(192, 168, 0, 1),
    Ipv4Addr::UNSPECIFIED,
];

/// A few of each block of IPv4 that is not public: first, last, and what is well known in it.
const FORBIDDEN_V4: [&str; 44] = [
    "0.0.0.0",
    "0.0.0.1",
    "0.255.255.255",
    "10.0.0.0",
    "10.255.255.255",
    "100.64.0.0",
    "100.100.100.200",
    "100.127.255.255",
    "127.0.0.1",
    "127.0.0.2",
    "127.255.255.255",
    "169.254.0.1",
    "169.254.169.254",
    "169.254.170.2",
    "169.254.255.255",
    "172.16.0.1",
    "172.17.0.1",
    "172.31.255.255",
    "192.0.0.1",
    "192.0.0.9",
    "192.0.0.170",
    "192.0.0.192",
    "192.0.2.1",
    "192.31.196.1",
    "192.52.193.1",
    "192.88.99.1",
    "192.168.0.1",
    "192.168.1.1",
    "192.168.255.255",
    "192.175.48.1",
    "198.18.0.1",
    "198.19.255.255",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "224.0.0.251",
    "239.255.255.250",
    "239.255.255.255",
    "240.0.0.1",
    "247.1.1.1",
    "250.250.250.250",
    "255.0.0.0",
    "255.255.255.254",
    "255.255.255.255",
];

/// The same of IPv6.
const FORBIDDEN_V6: [&str; 37] = [
    "::",
    "::1",
    "0:0:0:0:0:0:0:1",
    "0000:0000:0000:0000:0000:0000:0000:0001",
    "::2",
    "64:ff9b::",
    "64:ff9b:1::1",
    "100::1",
    "100:0:0:1::1",
    "1fff:ffff::1",
    "2001::1",
    "2001:1::1",
    "2001:1::2",
    "2001:2::1",
    "2001:3::1",
    "2001:4:112::1",
    "2001:10::1",
    "2001:20::1",
    "2001:30::1",
    "2001:1ff:ffff::1",
    "2001:db8::1",
    "2001:DB8:ffff::1",
    "2002::1",
    "2002:ffff:ffff::1",
    "2620:4f:8000::1",
    "3fff::1",
    "3fff:fff::1",
    "4000::1",
    "5f00::1",
    "fc00::1",
    "fd00:ec2::254",
    "fdff:ffff::1",
    "fe80::1",
    "febf::1",
    "fec0::1",
    "ff02::1",
    "ff0e::1",
];

/// Names that lead inwards by their own meaning; the name server of the test says so too.
const NAMES: [&str; 15] = [
    "localhost",
    "LOCALHOST",
    "localhost.",
    "localhost.localdomain",
    "ip6-localhost",
    "foo.localhost",
    "127.0.0.1.nip.io",
    "7f000001.rbndr.test",
    "metadata.google.internal",
    "instance-data",
    "kubernetes.default.svc",
    "seller.test.",
    "SELLER.test",
    "s\u{e9}ller.test",
    "xn--sller-bsa.test",
];

/// Every way to write an IPv4 address that some parser reads as that address.
fn spellings_of(ip: Ipv4Addr) -> Vec<String> {
    let [a, b, c, d] = ip.octets();
    let whole = u32::from(ip);
    let (last_three, last_two) = (whole & 0x00ff_ffff, whole & 0xffff);
    let dotted = ip.to_string();
    let shifted = |base: char| -> String {
        dotted
            .chars()
            .map(|digit| {
                digit.to_digit(10).map_or(digit, |value| {
                    char::from_u32(u32::from(base) + value).unwrap()
                })
            })
            .collect()
    };
    vec![
        dotted.clone(),
        format!("{dotted}."),
        whole.to_string(),
        format!("{whole:#x}"),
        format!("0X{whole:08X}"),
        format!("0x00000000{whole:x}"),
        format!("0{whole:o}"),
        format!("000000{whole:o}"),
        format!("{a:#x}.{b:#x}.{c:#x}.{d:#x}"),
        format!("0{a:o}.0{b:o}.0{c:o}.0{d:o}"),
        format!("0{a:03o}.{b}.{c:#x}.{d}"),
        format!("{a}.{last_three}"),
        format!("{a:#x}.{last_three:#x}"),
        format!("{a}.{b}.{last_two}"),
        dotted.replace('.', "%2e"),
        dotted.replace('.', "\u{3002}"),
        dotted.replace('.', "\u{ff0e}"),
        shifted('\u{ff10}'),
        shifted('\u{1d7ce}'),
        format!("%{:02x}{}", dotted.as_bytes()[0], &dotted[1..]),
    ]
}

/// IPv6 addresses in which an IPv4 address hides.
fn hiding(ip: Ipv4Addr) -> Vec<String> {
    let [a, b, c, d] = ip.octets();
    let [high, low] = [u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])];
    vec![
        format!("::ffff:{ip}"),
        format!("::ffff:{high:x}:{low:x}"),
        format!("0:0:0:0:0:FFFF:{ip}"),
        format!("::{ip}"),
        format!("::ffff:0:{ip}"),
        format!("64:ff9b::{ip}"),
        format!("64:ff9b:1::{ip}"),
        format!("2002:{high:x}:{low:x}::1"),
        format!("2001:0:{high:x}:{low:x}::"),
        format!("2001::{:x}:{:x}", !high, !low),
        format!("fe80::5efe:{ip}"),
    ]
}

/// What only a URL can say, each leading to `127.0.0.1:port` in somebody's reading.
fn tricks(port: u16) -> Vec<String> {
    let inside = format!("127.0.0.1:{port}");
    let outside = "93.184.216.34";
    vec![
        format!("http://{outside}@{inside}/"),
        format!("http://{outside}:443@{inside}/"),
        format!("http://user:{outside}@{inside}/"),
        format!("http://{inside}#@{outside}/"),
        format!("http://{inside}\\@{outside}/"),
        format!("http://{outside}\\@{inside}/"),
        format!("http://{inside}%00.{outside}/"),
        format!("http://{inside}%23.{outside}/"),
        format!("http:\\\\{inside}\\hook"),
        format!("http:/{inside}/hook"),
        format!("http:///{inside}/hook"),
        format!("http:{inside}/hook"),
        format!("//{inside}/hook"),
        inside.clone(),
        format!("HTTP://{inside}/hook"),
        format!("hTTp://127.1:{port}/"),
        format!(" http://{inside}/"),
        format!("http://{inside}/ "),
        format!("\thttp://{inside}/"),
        format!("ht\ntp://{inside}/"),
        format!("http://127.0.\t0.1:{port}/"),
        format!("http://127.0.0.1\u{ad}:{port}/"),
        format!("http://127.0.0.\u{2460}:{port}/"),
        format!("http://[::1%25lo]:{port}/"),
        format!("http://[::1%lo]:{port}/"),
        format!("http://[fe80::1%25eth0]:{port}/"),
        format!("http://[::1]%2f@{outside}:{port}/"),
        format!("http://127.0.0.1:0{port}/"),
        format!("http://256.256.256.256:{port}/"),
        format!("http://127.0.0.1.1:{port}/"),
        format!("http://0x7f.0x0.0x0.0x1.:{port}/"),
        format!("http://4294967297:{port}/"),
        format!("gopher://{inside}/_GET%20/hook"),
        format!("ftp://{inside}/"),
        format!("ws://{inside}/"),
        format!("dict://{inside}/"),
        format!("ldap://{inside}/"),
        format!("jar:http://{inside}!/"),
        format!("view-source:http://{inside}/"),
        format!("blob:http://{inside}/"),
        "file:///etc/passwd".to_owned(),
        "data:text/plain,x".to_owned(),
        "javascript:alert(1)".to_owned(),
        "unix:/var/run/docker.sock".to_owned(),
        "http+unix://%2Fvar%2Frun%2Fdocker.sock/".to_owned(),
        String::new(),
    ]
}

/// Every URL of the table, each on `port`, where something listens that must never be reached.
pub(super) fn urls(port: u16) -> Vec<String> {
    let v4 = SPELLED.iter().flat_map(|&ip| spellings_of(ip));
    let v4 = v4.chain(FORBIDDEN_V4.iter().map(|&text| text.to_owned()));
    let hidden = SPELLED.iter().flat_map(|&ip| hiding(ip));
    let v6 = hidden.chain(FORBIDDEN_V6.iter().map(|&text| text.to_owned()));
    let hosts = v4
        .chain(v6.map(|text| format!("[{text}]")))
        .chain(NAMES.iter().map(|&name| name.to_owned()));
    hosts
        .map(|host| format!("http://{host}:{port}/hook"))
        .chain(tricks(port))
        .collect()
}

/// The addresses of the table by themselves: what a name server may say of a seller's name.
pub(super) fn addresses() -> Vec<IpAddr> {
    let v4 = FORBIDDEN_V4.iter().map(|text| text.parse().unwrap());
    let hidden = SPELLED.iter().flat_map(|&ip| hiding(ip));
    let v6 = hidden
        .chain(FORBIDDEN_V6.iter().map(|&text| text.to_owned()))
        .map(|text| IpAddr::V6(text.parse::<Ipv6Addr>().unwrap()));
    v4.chain(v6).collect()
}
