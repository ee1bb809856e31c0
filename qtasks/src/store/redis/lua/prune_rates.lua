-- ARGV from 2: of each span, its name and the time before which its rates are deleted.

for at = 2, #ARGV, 2 do
    local spans = key('spans:', ARGV[at])
    for _, start in ipairs(call('ZRANGEBYSCORE', spans, '-inf', '(' .. ARGV[at + 1])) do
        call('UNLINK', key('rates:', ARGV[at] .. ':' .. start))
        call('ZREM', spans, start)
    end
end
