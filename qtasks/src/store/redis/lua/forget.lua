-- ARGV from 2: the worker, and the beat that was seen of it, or nothing.

if call('EXISTS', key('held:', ARGV[2])) == 0 and beat_of(ARGV[2]) == ARGV[3] then
    forget_worker(ARGV[2])
end
