-- ARGV from 2: the span, and the times between which it is asked. Gives of each time the lanes with their numbers.

local answer = {}
for _, start in ipairs(call('ZRANGEBYSCORE', key('spans:', ARGV[2]), ARGV[3], '(' .. ARGV[4])) do
    answer[#answer + 1] = { start, call('HGETALL', key('rates:', ARGV[2] .. ':' .. start)) }
end
return answer
