"""How rows lie in Redis: a hash for each version of a view, with rows by their keys, and how far it is.

`at` is the stamp up to which all rows are there. While rows are copied from the database it is missing, and `to` has
the token of who copies and the stamp that `at` will be, which goes on with what is written meanwhile; `until` says when
that one counts as dead. All of it is one key: what Redis forgets or evicts, it forgets as a whole.

A value begins with its order, of five unsigned numbers of 32 bits: numbers in Lua have 53.
"""

import hashlib
import struct

from services.data.feature_views.domain import Entry
from services.data.feature_views.places import Place

PREFIX = "aimass:features:"
AT = b"at"
TOKEN = 32  # characters
_ORDER, _ZERO = struct.Struct(">QIQ"), 2**63
_WRITE = """
local function newer(new, old)
  local a, b = {struct.unpack('>I4I4I4I4I4', new)}, {struct.unpack('>I4I4I4I4I4', old)}
  for part = 1, 5 do if a[part] ~= b[part] then return a[part] > b[part] end end
  return false
end
local function write(first)
  for place = first, #ARGV, 2 do
    local old = redis.call('HGET', KEYS[1], ARGV[place])
    if not old or newer(ARGV[place + 1], old) then redis.call('HSET', KEYS[1], ARGV[place], ARGV[place + 1]) end
  end
end
"""
# Rows of a step: stamp before, stamp after or '' where more follow, '1' for the first of the step, milliseconds to
# live, rows. 0: rows are missing here, so it was not taken over.
PUT = (
    _WRITE
    + """
local at, to = redis.call('HGET', KEYS[1], 'at'), redis.call('HGET', KEYS[1], 'to')
if ARGV[3] == '1' and ARGV[1] == '0' and not at and not to then
  at = '0'
  redis.call('HSET', KEYS[1], 'at', at)
end
local copied = to and string.sub(to, 33) == ARGV[1]
if at ~= ARGV[1] and not copied then return 0 end
write(5)
if ARGV[2] ~= '' then
  if copied then redis.call('HSET', KEYS[1], 'to', string.sub(to, 1, 32) .. ARGV[2])
  else redis.call('HSET', KEYS[1], 'at', ARGV[2]) end
end
redis.call('PEXPIRE', KEYS[1], ARGV[4])
return 1
"""
)
# Begins a copy: token, stamp, seconds until it counts as dead, milliseconds to live. 0: somebody else copies.
BEGIN = """
local now = tonumber(redis.call('TIME')[1])
local till = redis.call('HGET', KEYS[1], 'until')
if till and tonumber(till) > now then return 0 end
redis.call('UNLINK', KEYS[1])
redis.call('HSET', KEYS[1], 'to', ARGV[1] .. ARGV[2], 'until', now + ARGV[3])
redis.call('PEXPIRE', KEYS[1], ARGV[4])
return 1
"""
# Rows of a copy: token, seconds until it counts as dead, '1' for the last ones, milliseconds to live, rows. 0: it was
# lost, or is somebody else's.
COPY = (
    _WRITE
    + """
local to = redis.call('HGET', KEYS[1], 'to')
if not to or string.sub(to, 1, 32) ~= ARGV[1] then return 0 end
write(5)
if ARGV[3] == '1' then
  redis.call('HSET', KEYS[1], 'at', string.sub(to, 33))
  redis.call('HDEL', KEYS[1], 'to', 'until')
else
  redis.call('HSET', KEYS[1], 'until', redis.call('TIME')[1] + ARGV[2])
end
redis.call('PEXPIRE', KEYS[1], ARGV[4])
return 1
"""
)
HASHES = {text: hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest() for text in (PUT, BEGIN, COPY)}


def name(place: Place) -> bytes:
    """The key of a version of a view."""
    return f"{PREFIX}{'/'.join(map(str, (*place.scope, place.feature_view, place.version)))}".encode()


def packed(entry: Entry) -> bytes:
    """The value of a row."""
    return _ORDER.pack(entry.event_time + _ZERO, entry.data_set_version, entry.position) + entry.value


def unpacked(key: bytes, value: bytes) -> Entry:
    """The row again."""
    time, version, position = _ORDER.unpack_from(value)
    return Entry(key, time - _ZERO, version, position, value[_ORDER.size :])


def permissions() -> str:
    """The ACL rules that our Redis user needs beyond those of the cache."""
    scripts = " ".join(f"+evalsha|{digest}" for digest in HASHES.values())
    return f"+hmget +unlink +scan +memory|usage {scripts}"
