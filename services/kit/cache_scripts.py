"""The Lua scripts for Redis. Names and values are only in KEYS and ARGV, never in the text of a script.

The last key of each script is the marker, which has the time since when Redis has lost nothing. If it is missing, Redis
has been emptied, and the script creates a new one.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import astuple
from typing import Any

from services.kit.allowance import Claim, Grant

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

# Claims of `allowance`, whose claim_all has the same rules in words: all of them are granted or none. KEYS: the pots,
# each a hash with the fields t (tokens), a (as of when) and h<holder> ("amount until number"). ARGV: the 11 fields of
# each claim in their order.
TAKE = f"""{_MARKER}
local claims, late, enough = {{}}, false, true
for pot = 1, #KEYS - 1 do
  local function said(i) return ARGV[pot * 11 - 11 + i] end
  local c = {{mine = 'h' .. said(1), rate = tonumber(said(3)), burst = tonumber(said(4)), wait = 0, over = {{}}}}
  local number, want, least = tonumber(said(2)), tonumber(said(5)), tonumber(said(6))
  local left, back, held, slices, own = tonumber(said(7)), tonumber(said(8)), 0, {{}}, {{amount = 0, number = 0}}
  local tokens, at = c.burst, now
  -- A clock that was set back must not make slices last longer.
  local past = math.max(0, tonumber(redis.call('HGET', KEYS[pot], 'a') or now) - now)
  local state = redis.call('HGETALL', KEYS[pot])
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
    local grown = tokens + math.max(0, till - at) * c.rate
    tokens = math.max(0, math.min(c.burst - held, grown))
    at = math.max(at, till)
  end
  table.sort(slices, function(a, b) return a.till < b.till end)
  local first
  for _, slice in ipairs(slices) do
    if slice.till <= now then
      fill(slice.till)
      held = held - slice.amount
      c.over[#c.over + 1] = slice.field
    elseif slice.field == c.mine then own = slice
    elseif not first then first = slice.till end
  end
  fill(now)
  if own.number >= number then late = true
  else
    held = held - own.amount
    tokens = tokens + math.min(back, own.amount)
    if said(10) ~= epoch then tokens = math.min(tokens, tonumber(said(11))) end
    local room = math.max(0, c.burst - held - left)
    tokens = math.min(tokens, room)
    least = math.min(least, c.burst)
    if want > 0 and tokens < least then
      c.wait = (least - tokens) / c.rate
      if room < least then c.wait = math.max(c.wait, (first or now) - now) end
      enough = false
    end
  end
  c.tokens, c.want, c.left, c.number, c.seconds = tokens, want, left, number, tonumber(said(9))
  claims[pot] = c
end
local reply = {{}}
for pot, c in ipairs(claims) do
  local granted = 0
  if late then c.wait = 0
  else
    if enough then granted = math.max(0, math.min(c.want, c.tokens)) end
    c.tokens = c.tokens - granted
    if #c.over > 0 then redis.call('HDEL', KEYS[pot], unpack(c.over)) end
    local slice = string.format('%.17g %.6f %d', c.left + granted, now + c.seconds, c.number)
    redis.call('HSET', KEYS[pot], 't', string.format('%.17g', c.tokens), 'a', string.format('%.6f', now), c.mine, slice)
    local idle = math.min(1e12, math.max((c.burst - c.tokens) / c.rate, c.seconds) * 1000 + 1000)
    redis.call('PEXPIRE', KEYS[pot], string.format('%.0f', idle))
  end
  for _, value in ipairs({{granted, c.tokens, c.wait}}) do reply[#reply + 1] = string.format('%.17g', value) end
end
reply[#reply + 1] = epoch
return reply
"""

HASHES = {
    text: hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
    for text in (BORN, ADD, ANNOUNCE, WITHDRAW, MEMBERS, TAKE)
}


def values_of(claims: Sequence[tuple[str, Claim]], run: str) -> list[Any]:
    """The values of claims for TAKE, told to the run of Redis that its epochs begin with."""
    values: list[Any] = []
    for _, claim in claims:
        known, _, marker = claim.epoch.partition("/")
        fields = list(astuple(claim))
        fields[0], fields[9] = text_bytes(claim.holder), marker if known == run else ""
        values += fields
    return values


def granted(reply: Sequence[bytes], run: str) -> list[Grant]:
    """The grants in the answer of TAKE."""
    *found, marker = reply
    numbers, epoch = list(map(float, found)), f"{run}/{marker.decode()}"
    shown = zip(numbers[::3], numbers[1::3], numbers[2::3], strict=True)
    return [Grant(amount, tokens, wait, epoch) for amount, tokens, wait in shown]


def name(kind: str, key: str) -> bytes:
    """The key for a name of a kind. Any text is a valid name."""
    return f"aimass:{kind}:".encode() + text_bytes(key)


def group_names(group: str) -> list[bytes]:
    """The two keys of a group: the values of its members, and their expiry."""
    return [name("members", group), name("until", group)]


def text_bytes(text: str) -> bytes:
    """Any text as bytes, also with lone surrogates."""
    return text.encode("utf-8", "surrogatepass")


def milliseconds(seconds: float) -> int:
    """At least one."""
    return max(1, int(seconds * 1000))


def permissions() -> str:
    """The ACL rules for our Redis user: our keys, and only our scripts."""
    scripts = " ".join(f"+evalsha|{digest}" for digest in HASHES.values())
    inside = "+get +set +del +hget +hset +hdel +hgetall +zadd +zrem +zrangebyscore +pexpire +time"
    return f"resetkeys ~aimass:* resetchannels -@all +select +info +ping +script|load {inside} {scripts}"
