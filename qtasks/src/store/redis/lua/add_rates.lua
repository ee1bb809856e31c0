-- ARGV from 2, of each rate: its span, when it began, its lane, its numbers with spaces between them.

-- The sums of numbers that stand in two rows.
local function sum(one, other)
    local next, sums = other:gmatch('%d+'), {}
    for number in one:gmatch('%d+') do
        sums[#sums + 1] = string.format('%.0f', tonumber(number) + tonumber(next() or 0))
    end
    return table.concat(sums, ' ')
end

for at = 2, #ARGV, 4 do
    local span, start, lane, numbers = ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3]
    local rates = key('rates:', span .. ':' .. start)
    local known = call('HGET', rates, lane)
    call('HSET', rates, lane, known and sum(known, numbers) or numbers)
    call('ZADD', key('spans:', span), start, start)
end
