//! What lies between TCP and MQTT on a link: TLS, WebSocket, or one in the other.
//!
//! State machines without a socket, as everything is that `net` drives. A run on plain TCP makes none of them: then all
//! that this room costs is one branch per send and one per receive.

pub mod tls;
mod websocket;

use std::fmt;
use std::mem;
use std::net::SocketAddr;
use std::sync::Arc;

use ringmq::transport::ws::frame::Violation;

use tls::Tls;
use websocket::WebSocket;

/// What lies between TCP and MQTT on every link of a run. The default is nothing.
#[derive(Clone, Debug, Default)]
pub struct Transport {
    /// How TLS is spoken.
    pub tls: Option<Arc<rustls::ClientConfig>>,
    /// WebSocket, by the path that is asked for.
    pub websocket: Option<String>,
    /// What brokers are called: by that name they are asked for, and their certificates have to be made out to it. One that
    /// is not here is called by its address.
    pub names: Vec<(SocketAddr, String)>,
}

impl Transport {
    /// True when MQTT lies on TCP itself.
    pub fn is_plain(&self) -> bool {
        self.tls.is_none() && self.websocket.is_none()
    }

    fn name_of(&self, target: SocketAddr) -> String {
        let known = self.names.iter().find(|(address, _)| *address == target);
        known.map_or_else(|| target.ip().to_string(), |(_, name)| name.clone())
    }
}

/// Why a link with layers came to its end.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    /// By TLS.
    #[error("{0}{remedy}", remedy = tls::remedy(.0))]
    Tls(#[from] rustls::Error),
    /// What came is no answer to a WebSocket handshake.
    #[error("the answer is not that of a WebSocket listener: {0}")]
    NotWebSocket(&'static str),
    /// The server answered the handshake with a status of its own.
    #[error("the WebSocket handshake was answered with HTTP status {status}{}", websocket::remedy(*status))]
    Refused {
        /// Which.
        status: u16,
    },
    /// A frame was not as it should be.
    #[error("the broker sent {0}")]
    Frame(#[from] Violation),
}

/// The layers of one link.
pub struct Layers {
    tls: Option<Tls>,
    websocket: Option<WebSocket>,
    /// What is to be sent as it is.
    wire: Vec<u8>,
    /// What is to be sent of MQTT is the last of it.
    leaving: bool,
    /// Why the link is to end.
    failure: Option<LayerError>,
}

impl Layers {
    fn new(transport: &Transport, target: SocketAddr) -> Result<Box<Layers>, LayerError> {
        let name = transport.name_of(target);
        let tls = transport.tls.as_ref().map(|config| Tls::new(Arc::clone(config), &name)).transpose()?;
        let host = format!("{name}:{}", target.port());
        let websocket = transport.websocket.as_ref().map(|path| WebSocket::new(&host, path));
        Ok(Box::new(Layers { tls, websocket, wire: Vec::new(), leaving: false, failure: None }))
    }

    /// True when MQTT can be sent.
    fn is_ready(&self) -> bool {
        let tls = self.tls.as_ref().is_none_or(Tls::is_ready);
        tls && self.websocket.as_ref().is_none_or(WebSocket::is_open)
    }

    /// Writes what can be sent by now to open the layers, each when the one below is ready.
    fn open(&mut self) {
        if let Some(tls) = &mut self.tls {
            tls.flush(&mut self.wire);
            if !tls.is_ready() {
                return;
            }
        }
        if let Some(request) = self.websocket.as_mut().and_then(WebSocket::take_request) {
            self.send_below(&request);
        }
    }

    /// Takes bytes of the socket; appends what they hold of MQTT to `plain`.
    fn receive(&mut self, bytes: &[u8], between: &mut Vec<u8>, plain: &mut Vec<u8>) -> Result<(), LayerError> {
        let mut reply = Vec::new();
        match (&mut self.websocket, &mut self.tls) {
            (None, None) => plain.extend_from_slice(bytes),
            (None, Some(tls)) => tls.receive(bytes, plain, &mut self.wire)?,
            (Some(websocket), None) => websocket.receive(bytes, plain, &mut reply)?,
            (Some(websocket), Some(tls)) => {
                between.clear();
                tls.receive(bytes, between, &mut self.wire)?;
                websocket.receive(between, plain, &mut reply)?;
            }
        }
        self.open();
        self.send_below(&reply);
        Ok(())
    }

    /// Wraps MQTT into what is to be sent.
    fn send(&mut self, plain: &[u8]) {
        match (&mut self.websocket, &mut self.tls) {
            (None, None) => self.wire.extend_from_slice(plain),
            (Some(websocket), None) => websocket.wrap(plain, &mut self.wire),
            (None, Some(tls)) => tls.send(plain, &mut self.wire),
            (Some(websocket), Some(tls)) => {
                let mut frame = Vec::with_capacity(plain.len() + 16);
                websocket.wrap(plain, &mut frame);
                tls.send(&frame, &mut self.wire);
            }
        }
    }

    /// Takes leave in the terms of the layers that have any.
    fn say_farewell(&mut self) {
        let mut close = Vec::new();
        if let Some(websocket) = &mut self.websocket {
            websocket.close(&mut close);
        }
        self.send_below(&close);
    }

    /// Sends what is of WebSocket itself.
    fn send_below(&mut self, bytes: &[u8]) {
        match &mut self.tls {
            _ if bytes.is_empty() => {}
            None => self.wire.extend_from_slice(bytes),
            Some(tls) => tls.send(bytes, &mut self.wire),
        }
    }
}

impl fmt::Debug for Layers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Layers").field("tls", &self.tls.is_some()).field("failure", &self.failure).finish()
    }
}

/// What a received piece came to.
pub enum Received {
    /// This much MQTT is in [`Wardrobe::plain`], and there may be something to send.
    Taken {
        /// The layers became ready with it.
        now_ready: bool,
    },
    /// The link has to end: what is to be sent, is sent first.
    Failed,
}

/// The layers of all links of a thread, by slot. Empty on plain TCP.
#[derive(Default)]
pub struct Wardrobe {
    transport: Transport,
    layers: Vec<Option<Box<Layers>>>,
    /// What the last received piece held of MQTT.
    pub plain: Vec<u8>,
    /// The same, still in frames of WebSocket.
    between: Vec<u8>,
}

impl Wardrobe {
    /// For links of this transport.
    pub fn new(transport: Transport) -> Wardrobe {
        Wardrobe { transport, ..Wardrobe::default() }
    }

    /// True when links have layers.
    #[inline]
    pub fn is_used(&self) -> bool {
        !self.transport.is_plain()
    }

    /// Makes the layers of a new link, if links have any.
    pub fn put(&mut self, slot: u32, target: SocketAddr) -> Result<(), LayerError> {
        if self.is_used() {
            let slot = slot as usize;
            self.layers.resize_with(self.layers.len().max(slot + 1), || None);
            self.layers[slot] = Some(Layers::new(&self.transport, target)?);
        }
        Ok(())
    }

    /// The link is over: why, if its layers know.
    pub fn take_off(&mut self, slot: u32) -> Option<LayerError> {
        self.layers.get_mut(slot as usize)?.take()?.failure
    }

    /// The link's TCP connection is there: what opens the layers is ready to be sent.
    pub fn open(&mut self, slot: u32) {
        if let Some(layers) = self.of(slot) {
            layers.open();
        }
    }

    /// What is written by now is the last of MQTT on a link.
    pub fn leave(&mut self, slot: u32) {
        if let Some(layers) = self.of(slot) {
            layers.leaving = true;
        }
    }

    /// Moves what there is to send into `flying`, which is empty: MQTT of `pending` too if the layers are ready for it.
    pub fn wrap(&mut self, slot: u32, pending: &mut Vec<u8>, flying: &mut Vec<u8>) {
        let Some(layers) = self.of(slot) else { return };
        if !pending.is_empty() && layers.is_ready() {
            layers.send(pending);
            pending.clear();
            if layers.leaving {
                layers.say_farewell();
            }
        }
        mem::swap(flying, &mut layers.wire);
    }

    /// Takes bytes of the socket; what they hold of MQTT is in `plain` afterwards.
    pub fn receive(&mut self, slot: u32, bytes: &[u8]) -> Received {
        self.plain.clear();
        let Some(Some(layers)) = self.layers.get_mut(slot as usize) else { return Received::Failed };
        let before = layers.is_ready();
        match layers.receive(bytes, &mut self.between, &mut self.plain) {
            Ok(()) => Received::Taken { now_ready: !before && layers.is_ready() },
            Err(error) => {
                layers.failure = Some(error);
                Received::Failed
            }
        }
    }

    /// True when the link has something to send that is not MQTT.
    pub fn has_wire(&self, slot: u32) -> bool {
        self.layers.get(slot as usize).and_then(Option::as_ref).is_some_and(|layers| !layers.wire.is_empty())
    }

    fn of(&mut self, slot: u32) -> Option<&mut Layers> {
        self.layers.get_mut(slot as usize)?.as_deref_mut()
    }
}

#[cfg(test)]
mod tests {
    use ringmq::transport::ws::{self, Limits};

    use super::*;

    #[test]
    fn a_websocket_is_closed_in_order_behind_the_last_packet() {
        let transport = Transport { websocket: Some("/mqtt".into()), ..Transport::default() };
        let mut wardrobe = Wardrobe::new(transport);
        wardrobe.put(0, "127.0.0.1:1".parse().unwrap()).unwrap();
        wardrobe.open(0);
        let mut server = ws::Session::new(Arc::new(Limits::default()));
        let (mut got, mut answer) = (Vec::new(), Vec::new());
        let mut send = |wardrobe: &mut Wardrobe, mqtt: &[u8]| {
            let (mut pending, mut flying) = (mqtt.to_vec(), Vec::new());
            wardrobe.wrap(0, &mut pending, &mut flying);
            server.receive(&flying, &mut got, &mut answer).unwrap();
            let answer = mem::take(&mut answer);
            if !answer.is_empty() && !server.is_over() {
                assert!(matches!(wardrobe.receive(0, &answer), Received::Taken { .. }));
            }
            server.is_over()
        };
        assert!(!send(&mut wardrobe, b""), "the request");
        assert!(!send(&mut wardrobe, b"hello"));
        wardrobe.leave(0);
        assert!(send(&mut wardrobe, b"bye"), "DISCONNECT, and behind it a Close frame");
        assert_eq!(got, b"hellobye");
    }
}
