-- Add clicks to the counters of items and return the largest counters, atomically.
--
-- A click counts 2^(-age / half-life). To change no counter when time passes, a click at time t adds
-- 2^((t - origin) / half-life), and all counters are divided by the same number when they are read
-- (forward decay: Cormode et al., ICDE 2009, section III). The origin moves before numbers get large.
-- The caller divides, because Lua takes long for that, and Redis does nothing else meanwhile.
--
-- KEYS  1 sorted set: item id -> counter   2 the origin, in ms   both with the same hash tag
-- ARGV  1 half-life in ms   2 counters to return   3 counters to keep   4 least counter to keep
--       5 time of the first counters in ms, '' for a call without them   6 their number
--       then item and counter of each, then item and clicks for every item with new clicks
-- Return the time in ms, what a click adds now, and item and counter of each, the largest first; or
-- nothing, and change nothing, if there are no counters yet and the call brings no first ones.

local half_life, returned, kept, least = tonumber(ARGV[1]), ARGV[2], ARGV[3], tonumber(ARGV[4])
local RESCALE_HALF_LIVES = 100  -- numbers stay below 2^(100 + 64), far from the largest double
local EXPIRE_HALF_LIVES = 64
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local origin = tonumber(redis.call('GET', KEYS[2]) or '')
local first = tonumber(ARGV[6])

local function text(number) return string.format('%.17g', number) end

if not origin then
  if ARGV[5] == '' then return {} end
  origin = now
  redis.call('DEL', KEYS[1])
  local share = 2 ^ (math.min(tonumber(ARGV[5]) - now, 0) / half_life)
  for at = 7, 6 + 2 * first, 2 do
    redis.call('ZADD', KEYS[1], text(tonumber(ARGV[at + 1]) * share), ARGV[at])
  end
elseif now - origin > RESCALE_HALF_LIVES * half_life then
  local share = text(2 ^ ((origin - now) / half_life))
  redis.call('ZUNIONSTORE', KEYS[1], 1, KEYS[1], 'WEIGHTS', share)
  origin = now
end
local unit = 2 ^ ((now - origin) / half_life)
for at = 7 + 2 * first, #ARGV, 2 do
  redis.call('ZINCRBY', KEYS[1], text(tonumber(ARGV[at + 1]) * unit), ARGV[at])
end
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', '(' .. text(least * unit))
redis.call('ZREMRANGEBYRANK', KEYS[1], 0, -1 - kept)
local lifetime = text(math.floor(EXPIRE_HALF_LIVES * half_life))
redis.call('SET', KEYS[2], text(origin), 'PX', lifetime)
redis.call('PEXPIRE', KEYS[1], lifetime)

return { text(now), text(unit), redis.call('ZREVRANGE', KEYS[1], 0, returned - 1, 'WITHSCORES') }
