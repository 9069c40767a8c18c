//! One client over either of rumqttc's two modules: 3.1.1 (the crate's root) and 5.0 (`rumqttc::v5`).
//!
//! The two have the same shape and different types, so what comes in is translated here to one small set.

use std::time::Duration;

use rumqttc::v5;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// Why a test failed.
pub type Outcome<T = ()> = Result<T, String>;

/// How long any one event may take.
const DEADLINE: Duration = Duration::from_secs(20);

/// Which module of rumqttc speaks.
#[derive(Clone, Copy, PartialEq)]
pub enum Version {
    V311,
    V5,
}

/// How to connect.
#[derive(Clone, Default)]
pub struct Options {
    pub client_id: String,
    /// Keep the session (in 5.0 for five minutes) and resume it.
    pub persistent: bool,
    pub manual_acks: bool,
    /// Topic and payload of a will at QoS 1.
    pub will: Option<(String, String)>,
}

enum Client {
    V311(rumqttc::AsyncClient),
    V5(v5::AsyncClient),
}

enum Original {
    V311(rumqttc::Publish),
    V5(v5::mqttbytes::v5::Publish),
}

/// A received PUBLISH.
pub struct Message {
    pub topic: String,
    pub payload: Vec<u8>,
    pub qos: u8,
    pub retain: bool,
    pub dup: bool,
    pub user_properties: Vec<(String, String)>,
    original: Original,
}

/// What else a client is told.
#[derive(Debug, PartialEq)]
enum Notice {
    Connected { session_present: bool },
    Subscribed,
    Unsubscribed,
    Acknowledged,
    Ended(String),
}

/// A connected client.
pub struct Peer {
    client: Client,
    messages: UnboundedReceiver<Message>,
    notices: UnboundedReceiver<Notice>,
    pump: JoinHandle<()>,
    pub session_present: bool,
}

/// Dropping a peer closes its socket without DISCONNECT.
impl Drop for Peer {
    fn drop(&mut self) {
        self.pump.abort();
    }
}

/// Polls an event loop until it fails; the same text for two unrelated types.
macro_rules! pump {
    ($events:ident, $incoming:path, $translate:ident, $messages:ident, $notices:ident) => {
        tokio::spawn(async move {
            loop {
                match $events.poll().await {
                    Ok($incoming(packet)) => $translate(packet, &$messages, &$notices),
                    Ok(_) => {}
                    Err(error) => {
                        let _ = $notices.send(Notice::Ended(error.to_string()));
                        return;
                    }
                }
            }
        })
    };
}

impl Peer {
    /// Connects and waits for the CONNACK.
    pub async fn connect(port: u16, version: Version, options: Options) -> Outcome<Peer> {
        let (message_sender, messages) = unbounded_channel();
        let (notice_sender, notices) = unbounded_channel();
        let (client, pump) = match version {
            Version::V311 => {
                let (client, mut events) = rumqttc::AsyncClient::new(options_311(port, options), 100);
                let pump = pump!(events, rumqttc::Event::Incoming, translate_311, message_sender, notice_sender);
                (Client::V311(client), pump)
            }
            Version::V5 => {
                let (client, mut events) = v5::AsyncClient::new(options_5(port, options), 100);
                let pump = pump!(events, v5::Event::Incoming, translate_5, message_sender, notice_sender);
                (Client::V5(client), pump)
            }
        };
        let mut peer = Peer { client, messages, notices, pump, session_present: false };
        match peer.notice("CONNACK").await? {
            Notice::Connected { session_present } => peer.session_present = session_present,
            other => return Err(format!("{other:?} instead of CONNACK")),
        }
        Ok(peer)
    }

    async fn notice(&mut self, what: &str) -> Outcome<Notice> {
        match timeout(DEADLINE, self.notices.recv()).await {
            Err(_) => Err(format!("timed out waiting for {what}")),
            Ok(None) => Err(format!("the client ended before {what}")),
            Ok(Some(notice)) => Ok(notice),
        }
    }

    async fn expect(&mut self, want: Notice) -> Outcome {
        let got = self.notice(&format!("{want:?}")).await?;
        if got == want { Ok(()) } else { Err(format!("{got:?} instead of {want:?}")) }
    }

    pub async fn subscribe(&mut self, filter: &str, qos: u8) -> Outcome {
        match &self.client {
            Client::V311(client) => client.subscribe(filter, qos_311(qos)).await.map_err(text)?,
            Client::V5(client) => client.subscribe(filter, qos_5(qos)).await.map_err(text)?,
        }
        self.expect(Notice::Subscribed).await
    }

    pub async fn unsubscribe(&mut self, filter: &str) -> Outcome {
        match &self.client {
            Client::V311(client) => client.unsubscribe(filter).await.map_err(text)?,
            Client::V5(client) => client.unsubscribe(filter).await.map_err(text)?,
        }
        self.expect(Notice::Unsubscribed).await
    }

    /// Hands a message to the client; see [`Peer::acknowledged`].
    pub async fn send(&self, topic: &str, payload: &str, qos: u8, retain: bool) -> Outcome {
        match &self.client {
            Client::V311(client) => client.publish(topic, qos_311(qos), retain, payload).await.map_err(text),
            Client::V5(client) => {
                client.publish(topic, qos_5(qos), retain, payload.as_bytes().to_vec()).await.map_err(text)
            }
        }
    }

    /// Waits for `count` PUBACKs or PUBCOMPs.
    pub async fn acknowledged(&mut self, count: usize) -> Outcome {
        for _ in 0..count {
            self.expect(Notice::Acknowledged).await?;
        }
        Ok(())
    }

    pub async fn publish(&mut self, topic: &str, payload: &str, qos: u8, retain: bool) -> Outcome {
        self.send(topic, payload, qos, retain).await?;
        self.acknowledged(usize::from(qos > 0)).await
    }

    /// Publishes at QoS 1 with user properties (5.0 only).
    pub async fn publish_with_user_properties(
        &mut self,
        topic: &str,
        payload: &str,
        pairs: Vec<(String, String)>,
    ) -> Outcome {
        let Client::V5(client) = &self.client else { return Err("3.1.1 has no properties".into()) };
        let properties = v5::mqttbytes::v5::PublishProperties { user_properties: pairs, ..Default::default() };
        client
            .publish_with_properties(topic, qos_5(1), false, payload.as_bytes().to_vec(), properties)
            .await
            .map_err(text)?;
        self.acknowledged(1).await
    }

    pub async fn receive(&mut self) -> Outcome<Message> {
        match timeout(DEADLINE, self.messages.recv()).await {
            Err(_) => Err("timed out waiting for a message".into()),
            Ok(None) => Err("the client ended before its message".into()),
            Ok(Some(message)) => Ok(message),
        }
    }

    pub async fn payloads(&mut self, count: usize) -> Outcome<Vec<String>> {
        let mut out = Vec::with_capacity(count);
        for number in 0..count {
            let message = self.receive().await.map_err(|why| format!("message {number} of {count}: {why}"))?;
            out.push(String::from_utf8_lossy(&message.payload).into_owned());
        }
        Ok(out)
    }

    /// True when nothing has come that was not taken.
    pub fn is_drained(&self) -> bool {
        self.messages.is_empty()
    }

    /// Acknowledges a message by hand.
    pub async fn ack(&self, message: &Message) -> Outcome {
        match (&self.client, &message.original) {
            (Client::V311(client), Original::V311(publish)) => client.ack(publish).await.map_err(text),
            (Client::V5(client), Original::V5(publish)) => client.ack(publish).await.map_err(text),
            _ => Err("a message of another client".into()),
        }
    }

    /// Waits until the broker has closed the connection.
    pub async fn ended(&mut self) -> Outcome<String> {
        match self.notice("the end of the connection").await? {
            Notice::Ended(why) => Ok(why),
            other => Err(format!("{other:?} instead of the end of the connection")),
        }
    }

    pub async fn disconnect(mut self) -> Outcome {
        match &self.client {
            Client::V311(client) => client.disconnect().await.map_err(text)?,
            Client::V5(client) => client.disconnect().await.map_err(text)?,
        }
        self.ended().await.map(|_| ())
    }
}

const HOST: &str = "127.0.0.1";
const PACKET_BYTES: u32 = 1 << 20;

fn options_311(port: u16, options: Options) -> rumqttc::MqttOptions {
    let mut out = rumqttc::MqttOptions::new(options.client_id, HOST, port);
    out.set_clean_session(!options.persistent).set_manual_acks(options.manual_acks);
    out.set_max_packet_size(PACKET_BYTES as usize, PACKET_BYTES as usize);
    if let Some((topic, payload)) = options.will {
        out.set_last_will(rumqttc::LastWill::new(topic, payload, qos_311(1), false));
    }
    out
}

fn options_5(port: u16, options: Options) -> v5::MqttOptions {
    let mut out = v5::MqttOptions::new(options.client_id, HOST, port);
    out.set_clean_start(!options.persistent).set_manual_acks(options.manual_acks);
    out.set_session_expiry_interval(Some(if options.persistent { 300 } else { 0 }));
    out.set_max_packet_size(Some(PACKET_BYTES));
    if let Some((topic, payload)) = options.will {
        out.set_last_will(v5::mqttbytes::v5::LastWill::new(topic, payload, qos_5(1), false, None));
    }
    out
}

fn translate_311(packet: rumqttc::Packet, messages: &UnboundedSender<Message>, notices: &UnboundedSender<Notice>) {
    use rumqttc::Packet;
    let notice = match packet {
        Packet::Publish(publish) => {
            let _ = messages.send(Message {
                topic: publish.topic.clone(),
                payload: publish.payload.to_vec(),
                qos: publish.qos as u8,
                retain: publish.retain,
                dup: publish.dup,
                user_properties: Vec::new(),
                original: Original::V311(publish),
            });
            return;
        }
        Packet::ConnAck(ack) => Notice::Connected { session_present: ack.session_present },
        Packet::SubAck(ack) if ack.return_codes.contains(&rumqttc::SubscribeReasonCode::Failure) => {
            Notice::Ended("a subscription was refused".into())
        }
        Packet::SubAck(_) => Notice::Subscribed,
        Packet::UnsubAck(_) => Notice::Unsubscribed,
        Packet::PubAck(_) | Packet::PubComp(_) => Notice::Acknowledged,
        _ => return,
    };
    let _ = notices.send(notice);
}

fn translate_5(
    packet: v5::mqttbytes::v5::Packet,
    messages: &UnboundedSender<Message>,
    notices: &UnboundedSender<Notice>,
) {
    use v5::mqttbytes::v5::{Packet, SubscribeReasonCode};
    let notice = match packet {
        Packet::Publish(publish) => {
            let _ = messages.send(Message {
                topic: String::from_utf8_lossy(&publish.topic).into_owned(),
                payload: publish.payload.to_vec(),
                qos: publish.qos as u8,
                retain: publish.retain,
                dup: publish.dup,
                user_properties: publish.properties.clone().map(|each| each.user_properties).unwrap_or_default(),
                original: Original::V5(publish),
            });
            return;
        }
        Packet::ConnAck(ack) => Notice::Connected { session_present: ack.session_present },
        Packet::SubAck(ack) if !ack.return_codes.iter().all(|code| matches!(code, SubscribeReasonCode::Success(_))) => {
            Notice::Ended(format!("a subscription was refused: {:?}", ack.return_codes))
        }
        Packet::SubAck(_) => Notice::Subscribed,
        Packet::UnsubAck(_) => Notice::Unsubscribed,
        Packet::PubAck(_) | Packet::PubComp(_) => Notice::Acknowledged,
        _ => return,
    };
    let _ = notices.send(notice);
}

fn qos_311(level: u8) -> rumqttc::QoS {
    [rumqttc::QoS::AtMostOnce, rumqttc::QoS::AtLeastOnce, rumqttc::QoS::ExactlyOnce][usize::from(level)]
}

fn qos_5(level: u8) -> v5::mqttbytes::QoS {
    use v5::mqttbytes::QoS;
    [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce][usize::from(level)]
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}
