//! Certificates: which one is shown, whose is taken, and what changes when their files do.

use std::fs;
use std::sync::Arc;

use rustls::AlertDescription;

use super::client::{Authority, CONNACK, Client, connect};
use super::host::Host;
use crate::config::{ClientCertificate, CrlExpired, KeyPair, Tls};
use crate::core::counters::EndReason;
use crate::engine::Engine;
use crate::transport::Stack;
use crate::transport::tls::Settings;

fn host(tls: &Tls) -> (Host, Arc<Settings>) {
    let settings = Arc::new(Settings::load(tls, &["mqtt"]).unwrap());
    (Host::new(1, Stack { tls: Some(settings.clone()), ..Stack::default() }), settings)
}

/// Whether a client gets in, and why not.
fn try_in(
    host: &mut Host,
    authority: &Authority,
    name: Option<&str>,
    server: &'static str,
) -> Result<(), rustls::Error> {
    let mut client = Client::new(host, &Arc::new(authority.client(name)), server);
    client.talk(host);
    client.send(host, &connect("c"));
    match client.error {
        Some(error) => Err(error),
        None => {
            assert_eq!(client.got, CONNACK);
            Ok(())
        }
    }
}

#[test]
fn a_client_without_the_certificate_that_is_required_is_refused() {
    let mut authority = Authority::new("mutual");
    authority.issue("server");
    authority.issue("lamp");
    let mut strangers = Authority::new("strangers");
    strangers.issue("lamp");
    let client_ca = Some(authority.file("ca.pem"));
    let tls = Tls { client_ca, client_certificate: ClientCertificate::Required, ..authority.tls("server") };
    let (mut host, _) = host(&tls);
    assert_eq!(try_in(&mut host, &authority, Some("lamp"), "server"), Ok(()));
    let known = host.shards[0].inner().peers.pop().and_then(|peer| peer.certificate).expect("the core knows who it is");
    assert_eq!((known.common_name.as_deref(), &known.dns[..]), (Some("lamp"), &["lamp".to_owned()][..]));
    let alert = rustls::Error::AlertReceived(AlertDescription::CertificateRequired);
    assert_eq!(try_in(&mut host, &authority, None, "server"), Err(alert));
    fs::copy(strangers.file("lamp.pem"), authority.file("stranger.pem")).unwrap();
    fs::copy(strangers.file("lamp.key"), authority.file("stranger.key")).unwrap();
    assert!(try_in(&mut host, &authority, Some("stranger"), "server").is_err());
    assert_eq!(host.counters[0].tls_refused_no_certificate.load(), 1);
    assert_eq!(host.counters[0].tls_refused_certificate.load(), 1);
}

#[test]
fn non_utf8_common_name_is_refused_in_the_handshake_and_counted() {
    for client_certificate in [ClientCertificate::Required, ClientCertificate::Optional] {
        let mut authority = Authority::new("utf8");
        authority.issue("server");
        authority.issue_to("latin1", b"caf\xE9-01");
        authority.issue_to("nul", b"admin\0.x");
        authority.issue_to("plain", "café-01".as_bytes());
        let tls = Tls { client_ca: Some(authority.file("ca.pem")), client_certificate, ..authority.tls("server") };
        let (mut host, _) = host(&tls);
        assert_eq!(try_in(&mut host, &authority, Some("plain"), "server"), Ok(()), "made as the others are");
        let alert = rustls::Error::AlertReceived(AlertDescription::AccessDenied);
        for name in ["latin1", "nul"] {
            assert_eq!(try_in(&mut host, &authority, Some(name), "server"), Err(alert.clone()), "{name}");
        }
        assert_eq!(host.counters[0].tls_refused_names.load(), 2);
        let known = std::mem::take(&mut host.shards[0].inner().peers);
        let names: Vec<_> =
            known.iter().map(|peer| peer.certificate.as_ref().unwrap().common_name.as_deref()).collect();
        assert_eq!(names, [Some("café-01")], "the core has not heard of the others");
    }
}

#[test]
fn a_certificate_that_was_revoked_is_refused_from_the_next_reload_on_and_no_ticket_helps() {
    let mut authority = Authority::new("revoked");
    authority.issue("server");
    let serial = authority.issue("lamp");
    authority.revoke(&[]);
    let (mut host, settings) = host(&authority.mutual_tls("server"));
    let config = Arc::new(authority.client(Some("lamp")));
    Client::let_in(&mut host, &config, "c");
    authority.revoke(&[serial]);
    assert!(settings.reload(true).unwrap());
    // The same client, with the ticket of its first connection.
    let mut client = Client::new(&mut host, &config, "server");
    client.talk(&mut host);
    assert_eq!(client.error, Some(rustls::Error::AlertReceived(AlertDescription::CertificateRevoked)));
}

#[test]
fn by_a_revocation_list_that_is_out_of_date_nobody_gets_in_unless_that_is_said() {
    let mut authority = Authority::new("late");
    authority.issue("server");
    authority.issue("lamp");
    let revoked = authority.issue("thief");
    let tls = |client_crl_expired| Tls { client_crl_expired, ..authority.mutual_tls("server") };
    authority.revoke_until(&[revoked], 2025);
    assert_eq!(Tls::default().client_crl_expired, CrlExpired::Refuse);
    let (mut strict, settings) = host(&tls(CrlExpired::Refuse));
    let refused = rustls::Error::AlertReceived(AlertDescription::UnknownCA);
    assert_eq!(try_in(&mut strict, &authority, Some("lamp"), "server"), Err(refused));
    assert_eq!(strict.counters[0].tls_refused_list_expired.load(), 1);
    let (mut lenient, _) = host(&tls(CrlExpired::Accept));
    assert_eq!(try_in(&mut lenient, &authority, Some("lamp"), "server"), Ok(()));
    let refused = rustls::Error::AlertReceived(AlertDescription::CertificateRevoked);
    assert_eq!(
        try_in(&mut lenient, &authority, Some("thief"), "server"),
        Err(refused),
        "what the list says still holds"
    );
    authority.revoke_until(&[revoked], 2099);
    assert!(settings.reload(true).unwrap());
    assert_eq!(try_in(&mut strict, &authority, Some("lamp"), "server"), Ok(()), "the list was renewed");
}

#[test]
fn that_a_revocation_list_is_old_or_out_of_date_is_told_once() {
    const YEAR: i64 = 31_556_952;
    let mut authority = Authority::new("old");
    authority.issue("server");
    // Good from 2024 to 2028.
    authority.revoke_until(&[], 2028);
    let tls = |client_crl_expired| Tls { client_crl_expired, ..authority.mutual_tls("server") };
    for (policy, in_time, too_late) in [
        (CrlExpired::Refuse, "will be refused", "are refused until it is renewed"),
        (CrlExpired::Accept, "renew it", "whoever was revoked since gets in"),
    ] {
        let (_, settings) = host(&tls(policy));
        let warning = |year: i64| settings.revocation_warning((year - 1970) * YEAR + YEAR / 2);
        assert_eq!(warning(2026), None);
        for (year, told) in [(2027, in_time), (2028, too_late)] {
            let text = warning(year).unwrap();
            assert!(text.contains(told) && text.contains("crl.pem") && text.contains("2028"), "{text}");
            assert_eq!(warning(year), None, "once");
        }
        settings.reload(true).unwrap();
        assert!(warning(2028).is_some(), "the file was read again, and is no newer");
    }
}

#[test]
fn a_new_certificate_is_shown_from_the_next_reload_on_and_a_broken_one_never() {
    let mut authority = Authority::new("renewed");
    authority.issue("server");
    let (mut host, settings) = host(&authority.tls("server"));
    assert!(!settings.reload(false).unwrap(), "nothing has changed");
    assert_eq!(try_in(&mut host, &authority, None, "server"), Ok(()));
    let before = authority.directory.clone();
    let mut successor = Authority::new("successor");
    successor.issue("server");
    fs::copy(successor.file("server.pem"), before.join("server.pem")).unwrap();
    let error = settings.reload(false).unwrap_err().to_string();
    assert!(error.contains("server.key") && error.contains("not the key"), "{error}");
    assert_eq!(try_in(&mut host, &authority, None, "server"), Ok(()), "the old pair is shown");
    fs::write(before.join("server.key"), "nonsense").unwrap();
    let error = settings.reload(false).unwrap_err().to_string();
    assert!(error.contains("there is no private key in it"), "{error}");
    fs::copy(successor.file("server.key"), before.join("server.key")).unwrap();
    assert!(settings.reload(false).unwrap());
    assert!(try_in(&mut host, &authority, None, "server").is_err(), "it does not know the successor");
    assert_eq!(try_in(&mut host, &successor, None, "server"), Ok(()));
}

#[test]
fn each_name_is_served_with_its_own_certificate() {
    let mut authority = Authority::new("names");
    for name in ["server", "a.example", "other"] {
        authority.issue(name);
    }
    let pair = |name: &str| KeyPair {
        certificate: authority.file(&format!("{name}.pem")),
        key: authority.file(&format!("{name}.key")),
    };
    let tls = Tls { sni: vec![pair("a.example"), pair("other")], ..authority.tls("server") };
    let (mut host, _) = host(&tls);
    for name in ["server", "a.example", "other"] {
        assert_eq!(try_in(&mut host, &authority, None, name), Ok(()), "{name}");
    }
    assert!(try_in(&mut host, &authority, None, "nobody.example").is_err(), "the first one is shown, and does not fit");
}

#[test]
fn what_is_wrong_with_a_file_is_said_with_its_name() {
    let mut authority = Authority::new("wrong");
    authority.issue("server");
    let missing = Tls { certificate: authority.file("missing.pem"), ..authority.tls("server") };
    let error = Settings::load(&missing, &[]).err().unwrap().to_string();
    assert!(error.contains("missing.pem: No such file"), "{error}");
    let swapped = Tls { certificate: authority.file("server.key"), ..authority.tls("server") };
    let error = Settings::load(&swapped, &[]).err().unwrap().to_string();
    assert!(error.contains("server.key: there is no certificate in it"), "{error}");
}

#[test]
fn an_authority_that_is_no_longer_in_its_file_is_no_longer_trusted() {
    let mut authority = Authority::new("former");
    authority.issue("server");
    authority.issue("lamp");
    let ca = authority.file("clients.pem");
    fs::copy(authority.file("ca.pem"), &ca).unwrap();
    let tls =
        Tls { client_ca: Some(ca.clone()), client_certificate: ClientCertificate::Required, ..authority.tls("server") };
    let (mut host, settings) = host(&tls);
    let config = Arc::new(authority.client(Some("lamp")));
    Client::let_in(&mut host, &config, "c");
    fs::copy(Authority::new("latter").file("ca.pem"), &ca).unwrap();
    assert!(settings.reload(true).unwrap());
    // The same client, with the ticket of its first connection.
    let mut client = Client::new(&mut host, &config, "server");
    client.talk(&mut host);
    assert_eq!(client.error, Some(rustls::Error::AlertReceived(AlertDescription::UnknownCA)));
    assert_eq!(host.counters[0].tls_refused_certificate.load(), 1);
}

/// In the middle of 2026, and of 2031, in seconds since 1970.
const IN_2026: u64 = 1_782_000_000;
const IN_2031: u64 = 1_940_000_000;

#[test]
fn a_ticket_is_no_longer_good_than_the_certificate_and_the_list_that_it_stands_for() {
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        for (list_until, certificate_until, refused_for) in
            [(2099, 2030, AlertDescription::CertificateExpired), (2030, 2099, AlertDescription::UnknownCA)]
        {
            let mut authority = Authority::new("outlived");
            authority.issue("server");
            authority.issue_until("lamp", certificate_until);
            authority.revoke_until(&[], list_until);
            let (mut host, settings) = host(&authority.mutual_tls("server"));
            settings.set_time(IN_2026);
            let config = Arc::new(authority.client_of(Some("lamp"), &[version]));
            for resumed in [0, 1] {
                Client::let_in(&mut host, &config, "c");
                assert_eq!(host.counters[0].tls_resumed.load(), resumed);
            }
            settings.set_time(IN_2031);
            let mut client = Client::new(&mut host, &config, "server");
            client.talk(&mut host);
            assert_eq!(client.error, Some(rustls::Error::AlertReceived(refused_for)));
            assert!(host.wires[client.wire].is_closed);
            let counters = &host.counters[0];
            let refused = (counters.tls_refused_certificate.load(), counters.tls_refused_list_expired.load());
            assert_eq!(refused, if list_until == 2099 { (1, 0) } else { (0, 1) });
            assert_eq!((counters.tls_resumed.load(), counters.tls_handshaking.load()), (1, 0));
            assert_eq!(host.shards[0].inner().peers.len(), 2, "the core has not heard of it");
        }
    }
}

#[test]
fn who_is_connected_by_a_certificate_that_new_files_refuse_is_sent_away_and_nobody_else() {
    let mut authority = Authority::new("sent-away");
    authority.issue("server");
    let serials: Vec<u64> = ["lamp", "thief"].map(|name| authority.issue(name)).into();
    authority.revoke(&[]);
    let settings = Arc::new(Settings::load(&authority.mutual_tls("server"), &["mqtt"]).unwrap());
    // On both shards.
    let mut host = Host::new(2, Stack { tls: Some(settings.clone()), ..Stack::default() });
    let come =
        |host: &mut Host, name: &str, id: &str| Client::let_in(host, &Arc::new(authority.client(Some(name))), id);
    let lamps: Vec<_> = (0..20).map(|n| come(&mut host, "lamp", &format!("lamp {n}")).wire).collect();
    let thieves: Vec<_> = (0..20).map(|n| come(&mut host, "thief", &format!("thief {n}")).wire).collect();
    authority.revoke(&[serials[1]]);
    assert!(settings.reload(true).unwrap());
    host.turn();
    let gone = |host: &Host, wires: &[usize]| wires.iter().filter(|wire| host.wires[**wire].is_closed).count();
    assert!(gone(&host, &thieves) < 20, "some in each turn");
    assert!(host.shards.iter().any(|shard| shard.next_deadline().is_some_and(|deadline| deadline <= host.now)));
    host.settle();
    assert_eq!((gone(&host, &lamps), gone(&host, &thieves)), (0, 20));
    let ended = |host: &mut Host, shard: usize| {
        host.shards[shard].inner().core.counters().ended[EndReason::CredentialsWithdrawn as usize].load()
    };
    assert_eq!(ended(&mut host, 0) + ended(&mut host, 1), 20);
    // By a list that is out of date nobody new gets in; it says nothing of who is in.
    authority.revoke_until(&[serials[1]], 2025);
    assert!(settings.reload(true).unwrap());
    host.settle();
    assert_eq!(gone(&host, &lamps), 0);
}

#[test]
fn a_handshake_that_ends_after_a_reload_counts_by_what_was_read_then() {
    let mut authority = Authority::new("meanwhile");
    authority.issue("server");
    let serial = authority.issue("thief");
    authority.revoke(&[]);
    let (mut host, settings) = host(&authority.mutual_tls("server"));
    let mut client = Client::new(&mut host, &Arc::new(authority.client(Some("thief"))), "server");
    let hello = client.bytes();
    host.receive(client.wire, &hello);
    authority.revoke(&[serial]);
    assert!(settings.reload(true).unwrap());
    host.settle();
    client.talk(&mut host);
    host.settle();
    assert!(host.wires[client.wire].is_closed);
}
