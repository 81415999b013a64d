// Makes ages of times, here and not in the page: a page that is kept would go on saying "12 s ago".

const UNITS = [
  [86400, "day"],
  [3600, "hour"],
  [60, "min"],
  [1, "s"],
];

function age(at) {
  const passed = Math.max(0, Math.round((Date.now() - at) / 1000));
  const [size, unit] = UNITS.find(([size]) => passed >= size * 1.5) ?? [1, "s"];
  const count = Math.round(passed / size);
  if (count === 0) return "a moment";
  return `${count} ${unit}${unit.length > 3 && count > 1 ? "s" : ""}`;
}

function write(time) {
  const text = age(Date.parse(time.dateTime));
  return "since" in time.dataset ? `for ${text}` : `${text} ago`;
}

function tell() {
  for (const time of document.querySelectorAll("time.headrace-ago")) {
    const text = write(time);
    if (time.textContent !== text) time.textContent = text;
  }
}

tell();
setInterval(tell, 1000);
document.addEventListener("headrace-shown", tell);
