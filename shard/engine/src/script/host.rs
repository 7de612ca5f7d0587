//! Inside the machine: the Lua state, the jobs, and what of `redis.*` asks the node for something.

use std::cell::{Cell, OnceCell, RefCell};
use std::rc::Rc;

use corosensei::Yielder;
use larder_wire::resp::{Protocol, ReplyWriter};
use mlua::chunk::ChunkMode;
use mlua::debug::{Debug, DebugEvent};
use mlua::{
    Function, HookTriggers, Lua, LuaOptions, LuaString, MultiValue, Scope, StdLib, Table, Value,
    VmState,
};

use super::convert::{self, Fields};
use super::flags;
use super::machine::{Answer, Ask, Done, Job, Kind};
use super::mail::{Mail, Registered};
use super::raise::{self, refusal};
use super::{api, bit, cjson, cmsgpack, struct_};

const PRELUDE: &str = include_str!("prelude.lua");
/// How error handlers tell the prelude's functions from scripts.
pub(super) const PRELUDE_SOURCE: &str = "=larder";

/// How errors name scripts and functions.
const SCRIPT_CHUNK: &str = "@user_script";
const FUNCTION_CHUNK: &str = "@user_function";
/// Instructions of Lua between two looks at the time.
const TICK_INSTRUCTIONS: u32 = 100_000;

const COUNTING: HookTriggers = HookTriggers::new().every_nth_instruction(TICK_INSTRUCTIONS);
const EVERY_LINE: HookTriggers = HookTriggers::EVERY_LINE;

const KILLED: &str = "Script killed by user with SCRIPT KILL...";
const LOAD_TIMEOUT: &str = "FUNCTION LOAD timeout";

/// What the functions that ask the node share.
struct Host<'y> {
    yielder: &'y Yielder<Answer, Ask>,
    mail: &'y RefCell<Mail>,
    fields: Fields,
    brake: OnceCell<Rc<Brake>>,
    /// The parser does not hold on to the names of chunks.
    _chunk_names: [LuaString; 2],
    /// Keeps callbacks, while a library is loaded.
    keep: RefCell<Option<Function>>,
}

/// What the prelude returned.
struct Driver {
    keep: Function,
    eval: Function,
    fcall: Function,
    load: Function,
}

/// Serves jobs until it is told to quit.
pub(super) fn serve(
    yielder: &Yielder<Answer, Ask>,
    mail: &Rc<RefCell<Mail>>,
    kind: Kind,
    first: Answer,
) {
    debug_assert!(matches!(first, Answer::Go), "a machine is set up first");
    let lua = Lua::new_with(
        StdLib::TABLE | StdLib::STRING | StdLib::MATH,
        LuaOptions::default(),
    )
    .expect("these libraries are safe");
    let fields = Fields::new(&lua).expect("a fresh state has room");
    let chunk_names = [SCRIPT_CHUNK, FUNCTION_CHUNK]
        .map(|name| lua.create_string(name).expect("a fresh state has room"));
    let host = Host {
        yielder,
        mail,
        fields,
        brake: OnceCell::new(),
        _chunk_names: chunk_names,
        keep: RefCell::default(),
    };
    let served = lua.scope(|scope| {
        let driver = host.set_up(&lua, scope, mail, kind)?;
        host.serve(&lua, &driver)
    });
    served.expect("what scripts do wrong ends with their job");
}

impl<'y> Host<'y> {
    fn set_up<'scope>(
        &'scope self,
        lua: &Lua,
        scope: &'scope Scope<'scope, '_>,
        mail: &Rc<RefCell<Mail>>,
        kind: Kind,
    ) -> mlua::Result<Driver> {
        let native = lua.create_table()?;
        native.raw_set("plain", lua.create_function(raise::plain)?)?;
        let chunk = match kind {
            Kind::Scripts => SCRIPT_CHUNK,
            Kind::Functions => FUNCTION_CHUNK,
        };
        native.raw_set(
            "handler",
            lua.create_function(move |lua, problem| api::handle_error(lua, chunk, problem))?,
        )?;
        native.raw_set("bit", bit::library(lua)?)?;
        native.raw_set("cjson", cjson::library(lua)?)?;
        native.raw_set("cmsgpack", cmsgpack::library(lua)?)?;
        native.raw_set("struct", struct_::library(lua)?)?;
        let random = Rc::clone(mail);
        native.raw_set(
            "random",
            lua.create_function(move |lua, values| api::random(lua, &random, values))?,
        )?;
        let random = Rc::clone(mail);
        native.raw_set(
            "randomseed",
            lua.create_function(move |lua, values| api::randomseed(lua, &random, values))?,
        )?;
        native.raw_set("redis", self.redis(lua, scope, mail, kind)?)?;
        native.raw_set("loading", self.loading(lua, scope)?)?;
        let kind_name = match kind {
            Kind::Scripts => "scripts",
            Kind::Functions => "functions",
        };
        let (globals, driver): (Table, Table) = lua
            .load(PRELUDE)
            .set_name(PRELUDE_SOURCE)
            .call((native, kind_name))?;
        lua.set_globals(globals)?;
        let tick = scope.create_function(|_, ()| Ok(self.tick()))?;
        let brake = Brake {
            tick,
            mail: Rc::clone(mail),
            killed: Cell::new(None),
        };
        let brake = self.brake.get_or_init(|| Rc::new(brake));
        brake.arm(lua, COUNTING)?;
        Ok(Driver {
            keep: driver.raw_get("keep")?,
            eval: driver.raw_get("eval")?,
            fcall: driver.raw_get("fcall")?,
            load: driver.raw_get("load")?,
        })
    }

    fn redis<'scope>(
        &'scope self,
        lua: &Lua,
        scope: &'scope Scope<'scope, '_>,
        mail: &Rc<RefCell<Mail>>,
        kind: Kind,
    ) -> mlua::Result<Table> {
        let redis = lua.create_table()?;
        api::add_plain(lua, &redis)?;
        if kind == Kind::Scripts {
            api::add_debugging(lua, &redis)?;
        }
        let resp = Rc::clone(mail);
        redis.raw_set(
            "setresp",
            lua.create_function(move |lua, values| api::setresp(lua, &resp, values))?,
        )?;
        let repl = Rc::clone(mail);
        redis.raw_set(
            "set_repl",
            lua.create_function(move |lua, values| api::set_repl(lua, &repl, values))?,
        )?;
        redis.raw_set(
            "call",
            scope.create_function(|lua, values| {
                self.call(&values)?;
                convert::to_value_or_raise(lua, &self.mail.borrow().reply)
            })?,
        )?;
        redis.raw_set(
            "pcall",
            scope.create_function(|lua, values| {
                if let Err(error) = self.call(&values) {
                    return self.caught(lua, error);
                }
                convert::to_value(lua, &self.mail.borrow().reply)
            })?,
        )?;
        redis.raw_set(
            "acl_check_cmd",
            scope.create_function(|_, values| self.may_call(&values))?,
        )?;
        self.add_log(lua, scope, &redis)?;
        Ok(redis)
    }

    /// What a library sees as `redis` while it is loaded.
    fn loading<'scope>(
        &'scope self,
        lua: &Lua,
        scope: &'scope Scope<'scope, '_>,
    ) -> mlua::Result<Table> {
        let redis = lua.create_table()?;
        api::add_version(&redis)?;
        self.add_log(lua, scope, &redis)?;
        redis.raw_set(
            "register_function",
            scope.create_function(|lua, values| self.register(lua, values))?,
        )?;
        Ok(redis)
    }

    fn add_log<'scope>(
        &'scope self,
        _: &Lua,
        scope: &'scope Scope<'scope, '_>,
        redis: &Table,
    ) -> mlua::Result<()> {
        api::add_levels(redis)?;
        redis.raw_set(
            "log",
            scope.create_function(|lua, values: MultiValue| {
                if let Some((level, line)) = api::log_line(lua, &values)? {
                    self.mail.borrow_mut().text = line;
                    self.yielder.suspend(Ask::Log { level });
                }
                Ok(())
            })?,
        )
    }
}

impl Host<'_> {
    /// One job after the other.
    fn serve(&self, lua: &Lua, driver: &Driver) -> mlua::Result<()> {
        let mut done = Done::Good;
        loop {
            self.mail.borrow_mut().lua_bytes = lua.used_memory();
            let job = match self.yielder.suspend(Ask::Idle(done)) {
                Answer::Job(job) => job,
                Answer::Go | Answer::Kill => continue,
            };
            self.release_brake(lua)?;
            let worked = match job {
                Job::Compile { slot } => self.compile(lua, driver, slot),
                Job::Run { slot, resp3 } => self.run(lua, driver, slot, resp3),
                Job::Load { first_slot } => self.load(lua, driver, first_slot),
                Job::Forget { slot } => driver
                    .keep
                    .call::<()>((slot, Value::Nil))
                    .map(|()| Done::Good),
                Job::Quit => return Ok(()),
            };
            // Lua is out of memory, or of places on its stack.
            done = worked.unwrap_or_else(|error| {
                self.mail.borrow_mut().running = false;
                self.fail(format!("ERR {error}").into_bytes(), false)
            });
        }
    }

    fn release_brake(&self, lua: &Lua) -> mlua::Result<()> {
        match self.brake.get() {
            Some(brake) if brake.killed.take().is_some() => brake.arm(lua, COUNTING),
            Some(_) | None => Ok(()),
        }
    }

    fn fail(&self, text: Vec<u8>, counted: bool) -> Done {
        self.mail.borrow_mut().text = text;
        Done::Failed { counted }
    }

    fn chunk(&self, lua: &Lua, name: &str) -> Result<Function, String> {
        let source = std::mem::take(&mut self.mail.borrow_mut().text);
        // Compiled code is never taken: the virtual machine trusts it.
        let chunk = lua.load(source).set_name(name).set_mode(ChunkMode::Text);
        chunk.into_function().map_err(|error| match error {
            mlua::Error::SyntaxError { message, .. } => message,
            other => other.to_string(),
        })
    }

    fn compile(&self, lua: &Lua, driver: &Driver, slot: usize) -> mlua::Result<Done> {
        match self.chunk(lua, SCRIPT_CHUNK) {
            Ok(function) => {
                driver.keep.call::<()>((slot, function))?;
                Ok(Done::Good)
            }
            Err(message) => {
                let text = format!("ERR Error compiling script (new function): {message}");
                Ok(self.fail(text.into_bytes(), false))
            }
        }
    }

    fn run(&self, lua: &Lua, driver: &Driver, slot: usize, resp3: bool) -> mlua::Result<Done> {
        let (keys, values, is_eval) = {
            let mut mail = self.mail.borrow_mut();
            mail.resp3 = false;
            mail.running = true;
            let arguments = mail.arguments.view();
            let keys = lua.create_table_with_capacity(mail.keys, 0)?;
            let values = lua.create_table_with_capacity(arguments.len() - mail.keys, 0)?;
            for (index, argument) in arguments.args_from(0).enumerate() {
                let argument = lua.create_string(argument)?;
                match index.checked_sub(mail.keys) {
                    None => keys.raw_seti(index + 1, argument)?,
                    Some(index) => values.raw_seti(index + 1, argument)?,
                }
            }
            (keys, values, mail.is_eval)
        };
        let driver = if is_eval { &driver.eval } else { &driver.fcall };
        let result = driver.call::<(bool, Value)>((slot, keys, values));
        let script_resp3 = {
            let mut mail = self.mail.borrow_mut();
            mail.running = false;
            mail.resp3
        };
        match result {
            Ok((true, Value::Table(table))) if self.fields.is_error(&table)? => {
                let (text, counted) = api::returned_error(&table)?;
                Ok(self.fail(text, counted))
            }
            Ok((true, value)) => {
                let mut reply = std::mem::take(&mut self.mail.borrow_mut().reply);
                reply.clear();
                let protocol = if resp3 {
                    Protocol::Resp3
                } else {
                    Protocol::Resp2
                };
                let mut writer = convert::Writer {
                    fields: &self.fields,
                    reply: &mut ReplyWriter::new(&mut reply, protocol),
                    resp3: script_resp3,
                };
                let written = writer.value(&value, 0);
                self.mail.borrow_mut().reply = reply;
                written.map(|()| Done::Good)
            }
            Ok((false, Value::Table(error))) => {
                let (text, counted) = api::failure_text(&error)?;
                Ok(self.fail(text, counted))
            }
            // The error handler itself failed: memory, or its own recursion.
            Ok((false, other)) => {
                let shown = super::args::as_bytes(&other);
                let shown = shown.unwrap_or_else(|| b"execution failure".to_vec());
                Ok(self.fail(
                    [b"ERR Error running script ", shown.as_slice()].concat(),
                    false,
                ))
            }
            Err(error) => Ok(self.fail(format!("ERR {error}").into_bytes(), false)),
        }
    }

    fn load(&self, lua: &Lua, driver: &Driver, first_slot: usize) -> mlua::Result<Done> {
        let function = match self.chunk(lua, FUNCTION_CHUNK) {
            Ok(function) => function,
            Err(message) => {
                let text = format!("ERR Error compiling function: {message}");
                return Ok(self.fail(text.into_bytes(), false));
            }
        };
        {
            let mut mail = self.mail.borrow_mut();
            mail.registered = Some(Vec::new());
            mail.next_slot = first_slot;
        }
        self.keep.replace(Some(driver.keep.clone()));
        let result = driver.load.call::<(bool, Value)>(function);
        self.keep.replace(None);
        match result {
            Ok((true, _)) => Ok(Done::Good),
            Ok((false, problem)) => {
                let text = api::problem_text(&problem)?;
                let text = [b"ERR Error registering functions: ", text.as_slice()].concat();
                Ok(self.fail(text, false))
            }
            Err(error) => Ok(self.fail(format!("ERR {error}").into_bytes(), false)),
        }
    }

    /// Has the node run the command that `values` are; its reply is in the mail then.
    fn call(&self, values: &MultiValue) -> mlua::Result<()> {
        {
            let mut mail = self.mail.borrow_mut();
            if !mail.running {
                return Err(refusal(
                    "redis.call/pcall can only be called inside a script invocation",
                ));
            }
            write_command(&mut mail, values)?;
        }
        match self.yielder.suspend(Ask::Call) {
            Answer::Go => Ok(()),
            Answer::Kill => Err(refusal(KILLED)),
            Answer::Job(job) => unreachable!("a script runs, and {job:?} comes"),
        }
    }

    /// What redis.pcall returns of an error that redis.call would raise.
    fn caught(&self, lua: &Lua, error: mlua::Error) -> mlua::Result<Value> {
        raise::plain(lua, Value::Error(Box::new(error)))
    }

    fn may_call(&self, values: &MultiValue) -> mlua::Result<bool> {
        {
            let mut mail = self.mail.borrow_mut();
            if !mail.running {
                return Err(refusal(
                    "redis.acl_check_cmd can only be called inside a script invocation",
                ));
            }
            write_command(&mut mail, values)?;
        }
        match self.yielder.suspend(Ask::MayCall) {
            Answer::Go => {}
            Answer::Kill => return Err(refusal(KILLED)),
            Answer::Job(job) => unreachable!("a script runs, and {job:?} comes"),
        }
        match self.mail.borrow().reply.as_slice() {
            b"+yes\r\n" => Ok(true),
            b"+no\r\n" => Ok(false),
            _ => Err(refusal("Invalid command passed to redis.acl_check_cmd()")),
        }
    }

    /// Another's turn; false when the script is to end.
    fn tick(&self) -> bool {
        match self.yielder.suspend(Ask::Tick) {
            Answer::Go => true,
            Answer::Kill => false,
            Answer::Job(job) => unreachable!("a script runs, and {job:?} comes"),
        }
    }

    fn register(&self, lua: &Lua, values: MultiValue) -> mlua::Result<()> {
        if self.mail.borrow().registered.is_none() {
            return Err(refusal(
                "redis.register_function can only be called on FUNCTION LOAD command",
            ));
        }
        let asked = api::registration(lua, values)?;
        let mut mail = self.mail.borrow_mut();
        let slot = mail.next_slot;
        let registered = mail.registered.get_or_insert_default();
        let name = match String::from_utf8(asked.name) {
            Ok(name) if flags::is_name(name.as_bytes()) => name,
            Ok(_) | Err(_) => return Err(refusal(&flags::BAD_NAME["ERR ".len()..])),
        };
        if registered.iter().any(|other| other.name == name) {
            return Err(refusal("Function already exists in the library"));
        }
        registered.push(Registered {
            name,
            description: asked.description,
            flags: asked.flags,
            slot,
        });
        mail.next_slot += 1;
        drop(mail);
        match &*self.keep.borrow() {
            Some(keep) => keep.call((slot, asked.callback)),
            None => unreachable!("a library is being loaded"),
        }
    }
}

/// The arguments of redis.call as a request.
fn write_command(mail: &mut Mail, values: &MultiValue) -> mlua::Result<()> {
    if values.is_empty() {
        return Err(refusal(
            "Please specify at least one argument for this redis lib call",
        ));
    }
    let mut room = std::mem::take(&mut mail.argument);
    mail.command.start(values.len());
    for value in values {
        let fits = match value {
            Value::String(text) => mail.command.push(&text.as_bytes()),
            Value::Integer(_) | Value::Number(_) => {
                room.clear();
                convert::number_argument(value, &mut room);
                mail.command.push(&room)
            }
            _ => {
                return Err(refusal(
                    "Lua redis lib command arguments must be strings or integers",
                ));
            }
        };
        if !fits {
            return Err(refusal(
                "string exceeds maximum allowed size (proto-max-bulk-len)",
            ));
        }
    }
    mail.argument = room;
    Ok(())
}

/// Stops a script between two of its instructions.
struct Brake {
    tick: Function,
    mail: Rc<RefCell<Mail>>,
    /// What the script is told at every line, until the next job.
    killed: Cell<Option<&'static str>>,
}

impl Brake {
    /// For the coroutine that runs, and all that it makes.
    fn arm(self: &Rc<Brake>, lua: &Lua, triggers: HookTriggers) -> mlua::Result<()> {
        let brake = Rc::clone(self);
        lua.set_global_hook(triggers, move |lua, event| brake.hit(lua, event))
    }

    fn hit(self: &Rc<Brake>, lua: &Lua, event: &Debug<'_>) -> mlua::Result<VmState> {
        if self.killed.get().is_none() && !self.tick.call::<bool>(())? {
            let loading = self.mail.borrow().registered.is_some();
            self.killed
                .set(Some(if loading { LOAD_TIMEOUT } else { KILLED }));
        }
        let Some(text) = self.killed.get() else {
            return Ok(VmState::Continue);
        };
        // Whatever the script catches, its next line ends it again.
        if event.event() == DebugEvent::Count {
            self.arm(lua, EVERY_LINE)?;
        }
        Err(refusal(text))
    }
}
