-- What scripts see: a global table that cannot be changed, around the libraries that the node allows.
--
-- Lua 5.1 has no read-only tables, so each shared table is shown by an empty one (its front) whose metatable reads from the
-- real one and refuses writes. Functions that would go around a metatable (rawset, next, ...) know the fronts.
-- Whatever raises an error that names the caller's line is native: a Lua function that is called last leaves no trace of its caller.

local native, kind = ...
local _G = _G
local error, type, tostring, select = error, type, tostring, select
local raw_pcall, raw_xpcall, raw_next, raw_pairs = pcall, xpcall, next, pairs
local raw_get, raw_set, raw_setmetatable, raw_getmetatable = rawget, rawset, setmetatable, getmetatable
local raw_load, raw_loadstring, raw_unpack = load, loadstring, unpack
local byte, match, tonumber = string.byte, string.match, tonumber
local raw_resume = coroutine.resume
local plain = native.plain

local READ_ONLY = "Attempt to modify a readonly table"
local HIDDEN = {}
-- Front to real table.
local behind = {}

local function refuse_write()
  error(READ_ONLY, 2)
end

-- A front of `real`; `meta` is what getmetatable shows of it.
local function front(real, meta)
  local shown = raw_setmetatable({}, { __index = real, __newindex = refuse_write, __metatable = meta or HIDDEN })
  behind[shown] = real
  return shown
end

local function missing(_, name)
  local of = type(name)
  if of ~= "string" and of ~= "number" then
    error("Second argument to luaProtectedTableError must be a string or number", 2)
  end
  error("Script attempted to access nonexistent global variable '" .. tostring(name) .. "'", 2)
end

-- Errors of native functions are told apart by the host; scripts get the table or the string that they stand for.
local function settle(ok, ...)
  if ok then
    return ok, ...
  end
  return false, plain((...))
end

local function settle_text(ok, ...)
  if ok then
    return ok, ...
  end
  local problem = plain((...))
  if type(problem) == "table" then
    local text = problem.err
    local of = type(text)
    if of == "string" or of == "number" then
      problem = text
    end
  end
  return false, problem
end

local base = {
  _VERSION = _G._VERSION,
  assert = assert,
  collectgarbage = collectgarbage,
  error = error,
  gcinfo = gcinfo,
  ipairs = ipairs,
  rawequal = rawequal,
  select = select,
  tonumber = tonumber,
  tostring = tostring,
  type = type,
}

function base.pcall(...)
  return settle_text(raw_pcall(...))
end

function base.xpcall(f, handler)
  if type(handler) == "function" then
    return settle(raw_xpcall(f, function(problem)
      return handler(plain(problem))
    end))
  end
  return settle(raw_xpcall(f, handler))
end

function base.next(t, ...)
  return raw_next(behind[t] or t, ...)
end

function base.pairs(t)
  if behind[t] then
    return base.next, t, nil
  end
  if type(t) ~= "table" then
    error("bad argument #1 to 'pairs' (table expected, got " .. type(t) .. ")", 2)
  end
  return raw_pairs(t)
end

function base.rawget(t, name)
  return raw_get(behind[t] or t, name)
end

function base.rawset(t, name, value)
  if behind[t] then
    error(READ_ONLY, 0)
  end
  return raw_set(t, name, value)
end

function base.setmetatable(t, meta)
  if behind[t] then
    error(READ_ONLY, 0)
  end
  return raw_setmetatable(t, meta)
end

function base.getmetatable(t)
  local meta = raw_getmetatable(t)
  if meta ~= HIDDEN then
    return meta
  end
end

-- Lua 5.1 counts in ints here, and they may overflow.
local UNPACKED_MAX = 1000000
function base.unpack(t, first, last)
  if first == nil and last == nil then
    return raw_unpack(t)
  end
  local from, to = tonumber(first or 1), tonumber(last or #t)
  if from and to and to - from >= UNPACKED_MAX then
    error("too many results to unpack", 2)
  end
  return raw_unpack(t, first, last)
end

-- Compiled code is never taken: the virtual machine trusts it.
local function is_compiled(text)
  return type(text) == "string" and byte(text, 1) == 27
end

-- The parser does not hold on to a chunk's name: it has to be one that is held here.
local function held_name(name, default)
  if name == nil then
    name = default
  end
  if type(name) == "number" then
    name = tostring(name)
  end
  return type(name) == "string" and match(name, "^[^%z]*") or name
end

function base.loadstring(text, name)
  name = held_name(name, text)
  if is_compiled(text) then
    text = " \27"
  end
  local chunk, problem = raw_loadstring(text, name)
  if chunk then
    return chunk
  end
  return nil, problem
end

function base.load(reader, name)
  name = held_name(name, "=(load)")
  local first = true
  local function checked()
    local piece = reader()
    if first and piece ~= "" then
      first = false
      if is_compiled(piece) then
        return " \27"
      end
    end
    return piece
  end
  local chunk, problem = raw_load(type(reader) == "function" and checked or reader, name)
  if chunk then
    return chunk
  end
  return nil, problem
end

local routines = {}
for name, value in raw_pairs(coroutine) do
  routines[name] = value
end
function routines.resume(...)
  return settle(raw_resume(...))
end

local function copy(library)
  local real = {}
  for name, value in raw_pairs(library) do
    real[name] = value
  end
  return real
end

local math_real = copy(math)
math_real.random = native.random
math_real.randomseed = native.randomseed

-- Patterns recurse on the stack once an item: a long one would leave it.
local PATTERN_BYTES_MAX = 20000
local string_real = copy(string)
for _, name in ipairs({ "find", "gmatch", "gsub", "match" }) do
  local raw = string[name]
  string_real[name] = function(text, pattern, ...)
    if type(pattern) == "string" and #pattern > PATTERN_BYTES_MAX then
      error("pattern too complex", 2)
    end
    return raw(text, pattern, ...)
  end
end

local string_front = front(string_real)
base.string = string_front
base.table = front(copy(table))
base.math = front(math_real)
base.coroutine = front(routines)
base.bit = front(native.bit)
base.cjson = front(native.cjson)
base.cmsgpack = front(native.cmsgpack)
base.struct = front(native.struct)
base.redis = front(native.redis)
-- Valkey's name for it.
base.server = base.redis

local meta_front = front({ __index = missing })
local meta_of_strings = raw_getmetatable("")
meta_of_strings.__index = string_front
meta_of_strings.__metatable = front({ __index = string_front })

if kind == "scripts" then
  base.__redis__err__handler = native.handler
end

raw_setmetatable(base, { __index = missing })
local globals_meta = { __index = base, __newindex = refuse_write, __metatable = meta_front }
local globals = raw_setmetatable({}, globals_meta)
behind[globals] = base
base._G = globals

-- While a library is loaded it sees nothing but what registers its functions.
local loading
if kind == "functions" then
  local redis = raw_setmetatable(native.loading, { __index = missing })
  local shown = front(redis, meta_front)
  loading = raw_setmetatable({ redis = shown, server = shown }, { __index = missing })
end

-- By number: the compiled scripts, or the callbacks of functions.
local slots = {}
local handler = native.handler
local driver = {}

function driver.keep(slot, callable)
  slots[slot] = callable
end

function driver.eval(slot, keys, args)
  base.KEYS = keys
  base.ARGV = args
  return raw_xpcall(slots[slot], handler)
end

function driver.fcall(slot, keys, args)
  local callback = slots[slot]
  return raw_xpcall(function()
    return callback(keys, args)
  end, handler)
end

function driver.load(chunk)
  globals_meta.__index = loading
  behind[globals] = loading
  local ok, problem = raw_pcall(chunk)
  globals_meta.__index = base
  behind[globals] = base
  return ok, plain(problem)
end

return globals, driver
