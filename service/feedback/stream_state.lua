-- Describe the stream of a shard.
--
-- KEYS  1 the stream, see entries.py
-- Return its number of entries, its bytes, and the age of its oldest entry in ms; 0 if it is empty.

local oldest = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)[1]
if not oldest then return { 0, redis.call('MEMORY', 'USAGE', KEYS[1]) or 0, 0 } end
local now = redis.call('TIME')
local age = now[1] * 1000 + math.floor(now[2] / 1000) - tonumber(string.match(oldest[1], '^%d+'))
return { redis.call('XLEN', KEYS[1]), redis.call('MEMORY', 'USAGE', KEYS[1]), math.max(age, 0) }
