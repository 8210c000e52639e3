//! The mock's one thread: a readiness loop over the listener, the connections and a heap of timers.
//!
//! Why not the gateway's runtime: a mistake there must not be hidden by the same mistake here, a paused stream must
//! cost no task, and dropping a read must be harmless. The loop is level with what epoll offers and no more.
//!
//! Invariant: between two polls every connection was driven until nothing was left to do, so an edge is never lost.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use rustls::ServerConfig;
use socket2::{Domain, Protocol, Socket, Type};

use super::conn::{Conn, Fate};
use super::program::{Fault, Gate};
use super::provider::{Provider, Shared};
use super::tls::Transport;

pub(super) const WAKE: Token = Token(usize::MAX);
const LISTEN: Token = Token(usize::MAX - 1);
const BACKLOG: i32 = 1024;
/// One read takes at most so much; every connection shares the buffer.
const SCRATCH: usize = 64 * 1024;
/// After an error that will not go away at once (no file descriptors left), accept again this much later.
const ACCEPT_AGAIN: Duration = Duration::from_millis(10);

pub(super) struct Server {
    poll: Poll,
    addr: SocketAddr,
    tls: Option<Arc<ServerConfig>>,
    provider: Provider,
    shared: Arc<Shared>,
    door: Door,
    /// Keeps the port ours whatever stands at the door.
    _holder: Socket,
    accept_again: Option<Instant>,
    slots: Vec<Slot>,
    free: Vec<usize>,
    timers: BinaryHeap<Reverse<(Instant, usize, u64)>>,
    scratch: Vec<u8>,
}

#[derive(Default)]
struct Slot {
    conn: Option<Conn>,
    /// Grows with each connection, so that a timer of an earlier one is known as such.
    generation: u64,
    /// The latest timer that was set.
    wake: Option<Instant>,
}

/// What stands at the port.
enum Door {
    Open(TcpListener),
    /// The port is bound, so that nobody else takes it, and nothing listens.
    Shut(Socket),
    /// Listening with a full queue: the kernel drops every new connection's packets.
    Walled {
        _listener: Socket,
        _queue: Vec<Socket>,
    },
    /// The port could not be taken again; tried on every turn.
    Lost,
}

/// A listener, and a socket that holds its port while the door is shut or changes.
pub(super) struct Doorway {
    pub(super) listener: TcpListener,
    holder: Socket,
}

/// Binds and listens. `SO_REUSEADDR` lets a mock that was just stopped start again.
pub(super) fn listen(addr: SocketAddr) -> io::Result<Doorway> {
    // Bound and never listening: the kernel then gives the port to nobody who asks for a free one.
    let holder = bind(addr)?;
    let taken = holder.local_addr()?.as_socket().unwrap_or(addr);
    let socket = bind(taken)?;
    socket.listen(BACKLOG)?;
    Ok(Doorway { listener: socket.into(), holder })
}

fn bind(addr: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&addr.into())?;
    Ok(socket)
}

impl Server {
    pub(super) fn new(
        poll: Poll,
        doorway: Doorway,
        tls: Option<Arc<ServerConfig>>,
        provider: Provider,
    ) -> io::Result<Server> {
        let Doorway { listener, holder } = doorway;
        let addr = listener.local_addr()?;
        poll.registry().register(&mut SourceFd(&listener.as_raw_fd()), LISTEN, Interest::READABLE)?;
        Ok(Server {
            poll,
            addr,
            tls,
            shared: Arc::clone(&provider.shared),
            provider,
            door: Door::Open(listener),
            _holder: holder,
            accept_again: None,
            slots: Vec::new(),
            free: Vec::new(),
            timers: BinaryHeap::new(),
            scratch: vec![0; SCRATCH],
        })
    }

    /// Runs until told to stop.
    pub(super) fn run(mut self) {
        let mut events = Events::with_capacity(1024);
        while !self.shared.stop.load(Ordering::Acquire) {
            let now = Instant::now();
            self.mind_the_door(now);
            let (handed, pending) = {
                let state = self.shared.lock();
                (state.handed, state.taken < state.handed)
            };
            let wait = if pending { Some(now) } else { self.next_wake(now) };
            let wait = wait.map(|at| at.saturating_duration_since(now));
            match self.poll.poll(&mut events, wait) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                // Without a poll there is no server; the handle notices that the thread ended.
                Err(_) => break,
            }
            let now = Instant::now();
            // The program may have shut the door while this thread slept: nobody gets in before it did.
            self.mind_the_door(now);
            for event in &events {
                match event.token() {
                    WAKE => {}
                    LISTEN => self.accept(),
                    Token(slot) => {
                        if let Some(conn) = self.slots.get_mut(slot).and_then(|slot| slot.conn.as_mut()) {
                            conn.became_readable();
                            self.drive(slot);
                        }
                    }
                }
            }
            if self.accept_again.is_some_and(|at| at <= now) {
                self.accept_again = None;
                self.accept();
            }
            self.ring_timers();
            self.publish(handed);
        }
        self.reset_all(Instant::now());
    }

    fn next_wake(&self, now: Instant) -> Option<Instant> {
        let timer = self.timers.peek().map(|Reverse((at, _, _))| *at);
        let change = self.shared.lock().running.next_change(now);
        let lost = matches!(self.door, Door::Lost).then(|| now + ACCEPT_AGAIN);
        [timer, change, self.accept_again, lost].into_iter().flatten().min()
    }

    /// Tells who waits that all that was there to see when they asked was seen: one whole turn was made since.
    fn publish(&mut self, handed: u64) {
        let mut state = self.shared.lock();
        if state.taken < handed {
            state.taken = handed;
            self.shared.applied.notify_all();
        }
    }

    /// Opens and shuts the port as the program says.
    fn mind_the_door(&mut self, now: Instant) {
        let gate = self.shared.lock().running.gate(now);
        let is = match &self.door {
            Door::Open(_) => Some(Gate::Open),
            Door::Shut(_) => Some(Gate::Refuse),
            Door::Walled { .. } => Some(Gate::Blackhole),
            Door::Lost => None,
        };
        if is != Some(gate) {
            self.set_door(gate, now);
        }
    }

    fn set_door(&mut self, gate: Gate, now: Instant) {
        // Connections in the queue of a closed listener are reset by the kernel.
        let bound = match std::mem::replace(&mut self.door, Door::Lost) {
            Door::Shut(socket) => Ok(socket),
            open => {
                drop(open);
                bind(self.addr)
            }
        };
        if gate == Gate::Refuse {
            self.reset_all(now);
        }
        let door = bound.and_then(|socket| self.door(gate, socket));
        // A port that someone else took in between is tried again soon.
        self.door = door.unwrap_or(Door::Lost);
    }

    fn door(&self, gate: Gate, socket: Socket) -> io::Result<Door> {
        match gate {
            Gate::Refuse => Ok(Door::Shut(socket)),
            Gate::Open => {
                socket.listen(BACKLOG)?;
                let listener: TcpListener = socket.into();
                self.poll.registry().register(
                    &mut SourceFd(&listener.as_raw_fd()),
                    LISTEN,
                    Interest::READABLE,
                )?;
                Ok(Door::Open(listener))
            }
            Gate::Blackhole => {
                socket.listen(0)?;
                let fill = || -> io::Result<Socket> {
                    let own = Socket::new(Domain::for_address(self.addr), Type::STREAM, Some(Protocol::TCP))?;
                    own.set_nonblocking(true)?;
                    // In progress is what a non-blocking connect says.
                    let _ = own.connect(&self.addr.into());
                    Ok(own)
                };
                // A queue of length 0 holds one connection; the second is the first that waits.
                let queue = [fill()?, fill()?].into_iter().collect();
                Ok(Door::Walled { _listener: socket, _queue: queue })
            }
        }
    }

    fn accept(&mut self) {
        loop {
            let Door::Open(listener) = &self.door else { return };
            match listener.accept() {
                Ok((socket, _)) => self.welcome(socket),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error)
                    if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::ConnectionAborted) => {}
                Err(_) => {
                    self.accept_again = Some(Instant::now() + ACCEPT_AGAIN);
                    return;
                }
            }
        }
    }

    fn welcome(&mut self, socket: TcpStream) {
        let now = Instant::now();
        let faults = self.provider.on_connection(now);
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            self.slots.len() - 1
        });
        let ready = Transport::new(socket, self.tls.as_ref()).and_then(|transport| {
            transport.socket.set_nonblocking(true)?;
            transport.socket.set_nodelay(true)?;
            if faults.contains(&Fault::AcceptReset) {
                transport.arm_reset();
                return Err(ErrorKind::ConnectionReset.into());
            }
            let both = Interest::READABLE | Interest::WRITABLE;
            self.poll.registry().register(&mut SourceFd(&transport.socket.as_raw_fd()), Token(slot), both)?;
            Ok(transport)
        });
        match ready {
            Ok(transport) => {
                self.slots[slot].conn = Some(Conn::new(transport, &faults, now));
                self.drive(slot);
            }
            Err(_) => {
                self.free.push(slot);
                self.shared.lock().ledger.disconnected();
            }
        }
    }

    fn drive(&mut self, slot: usize) {
        // Read again for each connection: a turn over many of them takes milliseconds, and the pace starts here.
        let now = Instant::now();
        let place = &mut self.slots[slot];
        let Some(conn) = place.conn.as_mut() else { return };
        if conn.drive(&mut self.provider, &mut self.scratch, now) == Fate::Ends {
            return self.forget(slot);
        }
        let wake = conn.wake_at();
        if wake != place.wake {
            place.wake = wake;
            if let Some(at) = wake {
                self.timers.push(Reverse((at, slot, place.generation)));
            }
        }
    }

    fn forget(&mut self, slot: usize) {
        let place = &mut self.slots[slot];
        place.generation += 1;
        place.wake = None;
        if let Some(conn) = place.conn.take() {
            // Closing the socket, which follows, would do the same.
            let _ = self.poll.registry().deregister(&mut SourceFd(&conn.transport.socket.as_raw_fd()));
            self.free.push(slot);
            self.shared.lock().ledger.disconnected();
        }
    }

    fn ring_timers(&mut self) {
        let now = Instant::now();
        while let Some(Reverse((at, slot, generation))) = self.timers.peek().copied() {
            if at > now {
                return;
            }
            self.timers.pop();
            let place = &mut self.slots[slot];
            if place.generation == generation && place.wake == Some(at) {
                place.wake = None;
                self.drive(slot);
            }
        }
    }

    fn reset_all(&mut self, now: Instant) {
        for slot in 0..self.slots.len() {
            if let Some(conn) = self.slots[slot].conn.as_mut() {
                conn.transport.arm_reset();
                conn.abandon(&mut self.provider, now);
                self.forget(slot);
            }
        }
    }
}
