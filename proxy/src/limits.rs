//! How much the proxy keeps for whom. Every buffer, queue and wait has its limit here.

/// Unanswered requests of one client; beyond it, the client is not read from.
pub(crate) const PIPELINE_DEPTH_MAX: usize = 1 << 20;
/// Unanswered requests that every client may have, however large its replies are.
pub(crate) const PIPELINE_DEPTH_SURE: usize = 64;
/// Replies that a client has not taken, in bytes: beyond it, the client is not read from.
pub(crate) const CLIENT_OUT_BYTES_PAUSE: usize = 16 * 1024 * 1024;
/// Replies that a client has not taken, in bytes: beyond it, the client is cut off.
pub(crate) const CLIENT_OUT_BYTES_MAX: usize = 256 * 1024 * 1024;
/// A client that takes nothing of what waits for it is cut off after so many milliseconds.
pub(crate) const SLOW_READER_MS_MAX: u64 = 60_000;
/// Requests of one client that MULTI has queued, in bytes.
pub(crate) const MULTI_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Requests that one node has not answered, in bytes: beyond it, clients that want the node wait.
pub(crate) const LINK_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Requests that one node has not answered: beyond it, clients that want the node wait.
pub(crate) const LINK_REQUESTS_MAX: usize = 1 << 20;
/// Requests of one thread that wait for a slot to be served, in bytes: beyond it, clients wait.
pub(crate) const HELD_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Longest wait of a request for its slot to be served; then its client gets the error.
pub(crate) const HOLD_MS_MAX: u64 = 10_000;
/// Longest hold of a cutover, in milliseconds; then everything goes on at the old server.
pub(crate) const FORWARD_HOLD_MS_MAX: u64 = 5_000;
/// Pause before a request that a node refused goes out again: the first, and the longest.
pub(crate) const RETRY_MS_MIN: u64 = 2;
pub(crate) const RETRY_MS_MAX: u64 = 100;
/// Pause after a connection to a node failed: the first, and the longest.
pub(crate) const RECONNECT_MS_MIN: u64 = 5;
pub(crate) const RECONNECT_MS_MAX: u64 = 250;
/// A node that is a primary no longer and answers nothing for so long has lost what it was sent, in milliseconds…
pub(crate) const DEMOTED_SILENCE_MS_MAX: u64 = 250;
/// … and at once, when it has owed an answer for longer than it may hold one on purpose.
pub(crate) const DEMOTED_OWES_MS_MAX: u64 = larder_wire::control::HOLD_MS_MAX + 100;
/// So often a node that is a primary no longer has to be pointed to before that is believed.
pub(crate) const DEMOTED_BELIEVED_AFTER: u8 = 6;
/// A connection whose other end acknowledges nothing is lost after so many milliseconds; a silent one is asked after the second, and
/// given up after so many questions.
pub(crate) const UNHEARD_MS_MAX: u64 = HOLD_MS_MAX;
pub(crate) const KEEPALIVE_MS: u64 = 3000;
pub(crate) const KEEPALIVE_PROBES_MAX: u32 = 3;
/// Longest wait for a connection to a node to be made and opened, in milliseconds.
pub(crate) const CONNECT_MS_MAX: u64 = 2000;
/// Idle connections for commands that hold one (WATCH, those that block) that a thread keeps for one node, RESP2 and RESP3 together.
pub(crate) const POOL_CONNECTIONS_MAX: usize = 16;
/// Connections to one node that a thread's clients hold and that are idle, together; a command that needs one more gets an error.
pub(crate) const OWN_CONNECTIONS_MAX: usize = 4096;
/// Bytes that a client may send behind a command that blocks before it is not read from any more.
pub(crate) const PARKED_INPUT_BYTES_MAX: usize = 1024 * 1024;
/// A command that a node kept for so long and then sent elsewhere is tried as if it had just come, in milliseconds.
pub(crate) const PARKED_AFRESH_MS: u64 = 1000;
/// Channels and patterns that one client may listen to.
pub(crate) const SUBSCRIPTIONS_MAX: usize = 65_536;
/// Messages that a client has subscribed to and not taken, with its replies, in bytes: beyond it, the client is cut off.
pub(crate) const SUBSCRIBER_OUT_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Bytes read from a socket at once.
pub(crate) const READ_BYTES: usize = 64 * 1024;
/// A buffer that is empty and larger than this gives its memory back.
pub(crate) const BUFFER_KEEP_BYTES: usize = 256 * 1024;
/// Longest wait for connections to drain when the proxy ends, in milliseconds.
pub(crate) const DRAIN_MS_MAX: u64 = 5000;
/// Connections at once; further ones get an error and are closed.
pub(crate) const CLIENTS_MAX: usize = 10_000;
