-- ARGV from 2: the worker.

if call('EXISTS', KEYS[1] .. 'held:' .. ARGV[2]) == 1 then
    call('ZADD', KEYS[1] .. 'workers', LONG_AGO, ARGV[2])
    tell({}, {}, false, true)
else
    call('ZREM', KEYS[1] .. 'workers', ARGV[2])
end
