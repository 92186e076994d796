-- Health of a ClientIdentity: whether it is taken into account. A shared credential does not make it unhealthy: that is
-- told by CredentialExclusive, and the object is right all the same.

-- Status and conditions may be missing or of any shape: nothing here is taken for granted.
local function map(value)
  if type(value) == "table" then return value end
  return {}
end

local function text(value)
  if type(value) == "string" then return value end
  return nil
end

local metadata, status = map(obj.metadata), map(obj.status)
local conditions = {}
for _, condition in ipairs(map(status.conditions)) do
  local name = text(map(condition).type)
  if name ~= nil then conditions[name] = condition end
end

local function is(name, value)
  return map(conditions[name]).status == value
end

local function say(health, message)
  return {status = health, message = text(message)}
end

if metadata.deletionTimestamp ~= nil then
  return say("Progressing", "Being deleted")
end

local ready = map(conditions.Ready)
if status.observedGeneration ~= metadata.generation or conditions.Ready == nil then
  return say("Progressing", "Nobody has looked at this generation yet")
end
if is("Stalled", "True") then
  return say("Degraded", ready.message)
end
if is("Ready", "True") then
  return say("Healthy", ready.message)
end
return say("Progressing", ready.message)
