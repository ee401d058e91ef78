"""What Redis runs for us. Names and values come as KEYS and ARGV only; nothing of a caller ever becomes program text.

The last key of each script is the marker: it says since when Redis forgets nothing. Where it is missing, Redis has been
emptied, and the script that notices makes a new one.
"""

import hashlib

MARKER = b"aimass:born"
_MARKER = """
local clock = redis.call('TIME')
local now = clock[1] + clock[2] / 1000000
local epoch = redis.call('GET', KEYS[#KEYS])
if not epoch then
  epoch = string.format('%.6f', now)
  redis.call('SET', KEYS[#KEYS], epoch)
end
"""

BORN = f"""{_MARKER}
return epoch
"""

# KEYS: the key. ARGV: milliseconds that it is remembered.
ADD = f"""{_MARKER}
local added = redis.call('SET', KEYS[1], '', 'NX', 'PX', ARGV[1])
return {{added and 1 or 0, epoch, string.format('%.6f', now)}}
"""

# KEYS: what members said, until when they are there. ARGV: member, value, milliseconds.
ANNOUNCE = f"""{_MARKER}
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
redis.call('ZADD', KEYS[2], string.format('%.6f', now + ARGV[3] / 1000), ARGV[1])
return epoch
"""

# KEYS as above. ARGV: member.
WITHDRAW = """
redis.call('HDEL', KEYS[1], ARGV[1])
return redis.call('ZREM', KEYS[2], ARGV[1])
"""

# KEYS as above. Members whose time is over are removed, so that neither key grows.
MEMBERS = f"""{_MARKER}
local gone = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', string.format('%.6f', now))
for _, member in ipairs(gone) do
  redis.call('HDEL', KEYS[1], member)
  redis.call('ZREM', KEYS[2], member)
end
return redis.call('HGETALL', KEYS[1])
"""

# A claim of `allowance`, whose Pot has the same rules in words. KEYS: the pot, a hash with the fields t (tokens), a (as
# of when) and h<holder> ("amount until number"). ARGV: the fields of the claim in their order.
TAKE = f"""{_MARKER}
local mine, number = 'h' .. ARGV[1], tonumber(ARGV[2])
local rate, burst = tonumber(ARGV[3]), tonumber(ARGV[4])
local want, least, left, back = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])
local seconds, view = tonumber(ARGV[9]), tonumber(ARGV[11])
local tokens, at, held, slices, own = burst, now, 0, {{}}, {{amount = 0, number = 0}}
-- A clock that was set back must not make slices last longer.
local past = math.max(0, tonumber(redis.call('HGET', KEYS[1], 'a') or now) - now)
local state = redis.call('HGETALL', KEYS[1])
for i = 1, #state, 2 do
  local field, value = state[i], state[i + 1]
  if field == 't' then tokens = tonumber(value)
  elseif field == 'a' then at = tonumber(value) - past
  else
    local amount, till, turn = string.match(value, '^(%S+) (%S+) (%S+)$')
    local slice = {{field = field, amount = tonumber(amount), number = tonumber(turn)}}
    slice.till = tonumber(till) - past
    slices[#slices + 1] = slice
    held = held + slice.amount
  end
end
local function fill(till)
  local grown = tokens + math.max(0, till - at) * rate
  tokens = math.max(0, math.min(burst - held, grown))
  at = math.max(at, till)
end
table.sort(slices, function(a, b) return a.till < b.till end)
local first
for _, slice in ipairs(slices) do
  if slice.till <= now then
    fill(slice.till)
    held = held - slice.amount
    redis.call('HDEL', KEYS[1], slice.field)
  elseif slice.field == mine then own = slice
  elseif not first then first = slice.till end
end
fill(now)
local function reply(granted, wait)
  return {{string.format('%.17g', granted), string.format('%.17g', tokens), string.format('%.17g', wait), epoch}}
end
if own.number >= number then return reply(0, 0) end
held = held - own.amount
tokens = tokens + math.min(back, own.amount)
if ARGV[10] ~= epoch then tokens = math.min(tokens, view) end
local room = math.max(0, burst - held - left)
tokens = math.min(tokens, room)
least = math.min(least, burst)
local granted, wait = 0, 0
if want > 0 and tokens >= least then granted = math.min(want, tokens)
elseif want > 0 then
  wait = (least - tokens) / rate
  if room < least then wait = math.max(wait, (first or now) - now) end
end
tokens = tokens - granted
local slice = string.format('%.17g %.6f %d', left + granted, now + seconds, number)
redis.call('HSET', KEYS[1], 't', string.format('%.17g', tokens), 'a', string.format('%.6f', now), mine, slice)
local idle = math.min(1e12, math.max((burst - tokens) / rate, seconds) * 1000 + 1000)
redis.call('PEXPIRE', KEYS[1], string.format('%.0f', idle))
return reply(granted, wait)
"""

HASHES = {
    text: hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
    for text in (BORN, ADD, ANNOUNCE, WITHDRAW, MEMBERS, TAKE)
}


def name(kind: str, key: str) -> bytes:
    """The key of a thing of a kind; any text is a safe one."""
    return f"aimass:{kind}:".encode() + text_bytes(key)


def group_names(group: str) -> list[bytes]:
    """The two keys of a group: what its members said, and until when."""
    return [name("members", group), name("until", group)]


def text_bytes(text: str) -> bytes:
    """Any text as bytes, also one that is no Unicode."""
    return text.encode("utf-8", "surrogatepass")


def milliseconds(seconds: float) -> int:
    """At least one."""
    return max(1, int(seconds * 1000))


def permissions() -> str:
    """What a Redis user of the house needs and no more, as ACL rules: our keys, and of scripts only ours."""
    scripts = " ".join(f"+evalsha|{digest}" for digest in HASHES.values())
    inside = "+get +set +del +hget +hset +hdel +hgetall +zadd +zrem +zrangebyscore +pexpire +time"
    return f"resetkeys ~aimass:* resetchannels -@all +select +info +ping +script|load {inside} {scripts}"
