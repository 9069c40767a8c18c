//! The options of TLS and WebSocket, and what they come to.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;

use super::CliError;
use crate::net;
use crate::net::layer::tls::{Settings, configure};
use crate::plan::Transport;

/// How TLS and WebSocket are spoken.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "TLS and WebSocket")]
pub struct TransportOptions {
    /// Certificates that the broker's must come from, in PEM form
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// Certificate of the clients, with its chain, in PEM form; all of them show the same
    #[arg(long, value_name = "FILE", requires = "key")]
    pub cert: Option<PathBuf>,
    /// Its private key, in PEM form
    #[arg(long, value_name = "FILE", requires = "cert")]
    pub key: Option<PathBuf>,
    /// Take any certificate of the broker
    #[arg(long, conflicts_with = "ca")]
    pub insecure: bool,
    /// What the broker is called in its certificate, and asked for (SNI, and the Host of WebSocket) [default: what --host
    /// calls it]
    #[arg(long, value_name = "NAME")]
    pub sni: Option<String>,
    /// Resume TLS sessions: a ticket that one connection was given opens the next. Without it each handshake is full, as if
    /// each client were another device
    #[arg(long)]
    pub resume: bool,
    /// Path of WebSocket
    #[arg(long, value_name = "PATH", default_value = "/mqtt")]
    pub ws_path: String,
}

impl Default for TransportOptions {
    fn default() -> Self {
        let (ca, cert, key, sni) = (None, None, None, None);
        Self { ca, cert, key, insecure: false, sni, resume: false, ws_path: "/mqtt".to_owned() }
    }
}

impl TransportOptions {
    /// What lies between TCP and MQTT on the connections of a run. `names` is what the brokers are called.
    ///
    /// # Errors
    ///
    /// Options that don't fit the transport, files that can't be used.
    pub fn load(&self, transport: Transport, names: Vec<(SocketAddr, String)>) -> Result<net::Transport, CliError> {
        if let Some(option) = self.tls_option().filter(|_| !transport.has_tls()) {
            return Err(wrong(
                option,
                format!("there is no TLS in {}", transport.name()),
                "add --transport tls or wss",
            ));
        }
        let names = match &self.sni {
            Some(sni) => names.into_iter().map(|(address, _)| (address, sni.clone())).collect(),
            None => names,
        };
        let tls = transport.has_tls().then(|| self.tls(transport)).transpose()?.map(Arc::new);
        let websocket = transport.has_websocket().then(|| self.ws_path.clone());
        if websocket.as_ref().is_some_and(|path| !path.starts_with('/') || path.contains(char::is_whitespace)) {
            let what = format!("\"{}\" is no path", self.ws_path);
            return Err(wrong("--ws-path", what, "write one that begins with /"));
        }
        Ok(net::Transport { tls, websocket, names })
    }

    /// An option that only TLS has, if one is given.
    fn tls_option(&self) -> Option<&'static str> {
        let given = [
            ("--ca", self.ca.is_some()),
            ("--cert", self.cert.is_some()),
            ("--insecure", self.insecure),
            ("--resume", self.resume),
        ];
        given.into_iter().find(|(_, given)| *given).map(|(option, _)| option)
    }

    fn tls(&self, transport: Transport) -> Result<rustls::ClientConfig, CliError> {
        if self.ca.is_none() && !self.insecure {
            let option = format!("--transport {}", transport.name());
            let what = "it is not said which certificates of the broker are good";
            return Err(wrong(&option, what.to_owned(), "add --ca FILE, or --insecure, which takes any"));
        }
        let settings = Settings {
            ca: self.ca.as_deref(),
            identity: self.cert.as_deref().zip(self.key.as_deref()),
            resume: self.resume,
            alpn: if transport.has_websocket() { b"http/1.1" } else { b"mqtt" },
        };
        configure(&settings).map_err(|(option, what)| wrong(option, what, "name a PEM file that can be read and used"))
    }
}

fn wrong(option: &str, what: String, remedy: &str) -> CliError {
    CliError::Option { option: option.to_owned(), what, remedy: remedy.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(options: &TransportOptions, transport: Transport) -> String {
        options.load(transport, Vec::new()).unwrap_err().to_string()
    }

    #[test]
    fn tcp_and_websocket_need_no_options() {
        let options = TransportOptions::default();
        assert!(options.load(Transport::Tcp, Vec::new()).unwrap().is_plain());
        assert_eq!(options.load(Transport::Ws, Vec::new()).unwrap().websocket.as_deref(), Some("/mqtt"));
    }

    #[test]
    fn tls_must_be_told_whom_to_trust() {
        let told = refused(&TransportOptions::default(), Transport::Wss);
        assert!(told.contains("--transport wss: ") && told.contains("--insecure"), "{told}");
        let insecure = TransportOptions { insecure: true, ..<_>::default() };
        assert!(insecure.load(Transport::Tls, Vec::new()).unwrap().tls.is_some());
    }

    #[test]
    fn options_of_tls_without_tls_are_refused_rather_than_ignored() {
        let insecure = TransportOptions { insecure: true, ..<_>::default() };
        assert!(refused(&insecure, Transport::Ws).starts_with("--insecure: there is no TLS in ws"));
        let ca = TransportOptions { ca: Some("ca.pem".into()), ..<_>::default() };
        assert!(refused(&ca, Transport::Tcp).starts_with("--ca: there is no TLS in tcp"));
    }

    #[test]
    fn files_that_cannot_be_used_are_named_with_their_option() {
        let missing = TransportOptions { ca: Some("/no/such/ca.pem".into()), ..<_>::default() };
        assert!(refused(&missing, Transport::Tls).starts_with("--ca: /no/such/ca.pem: "));
        let no_certificate = TransportOptions { ca: Some("/proc/self/status".into()), ..<_>::default() };
        assert!(refused(&no_certificate, Transport::Tls).contains("no certificate in it"));
        let keyless = TransportOptions {
            insecure: true,
            cert: Some("/no/cert.pem".into()),
            key: Some("/no/key.pem".into()),
            ..<_>::default()
        };
        assert!(refused(&keyless, Transport::Tls).starts_with("--cert: /no/cert.pem: "));
    }

    #[test]
    fn a_path_of_websocket_begins_with_a_slash() {
        let options = TransportOptions { ws_path: "mqtt".to_owned(), ..<_>::default() };
        assert!(refused(&options, Transport::Ws).starts_with("--ws-path: \"mqtt\" is no path"));
    }
}
