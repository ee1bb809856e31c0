-- The first bytes of many values.

-- As many values are read at a time. Where they have more bytes than that, on average, only the first ones of each are read.
local READ, LARGE = 50, 2048

local are_large = {}

-- Of each value at least the first bytes, or nothing; by what its key begins with.
local function heads(kind, ids, length)
    local values, bytes = {}, 0
    if are_large[kind] then
        for index, id in ipairs(ids) do
            local head = call('GETRANGE', kind .. id, 0, length - 1)
            values[index] = head ~= '' and head
        end
        return values
    end
    values = get_all(keys_of(kind, ids))
    for index = 1, #ids do
        bytes = bytes + #(values[index] or '')
    end
    are_large[kind] = bytes > LARGE * #ids
    return values
end

