// Shows what the agent says, twice a second; and says so when it says nothing.
(function () {
  "use strict";
  var live = document.getElementById("live"), down = document.getElementById("down");
  var shown = "", missed = 0;
  function look() {
    var stop = new AbortController(), timer = setTimeout(function () { stop.abort(); }, 2000);
    fetch("/live", { signal: stop.signal }).then(function (r) {
      if (!r.ok) throw new Error(r.status);
      return r.text();
    }).then(function (html) {
      missed = 0;
      if (html !== shown) live.innerHTML = shown = html;
    }, function () {
      missed++;
    }).then(function () {
      clearTimeout(timer);
      down.hidden = missed < 3;
      live.hidden = missed >= 3;
      setTimeout(look, 500);
    });
  }
  look();
})();
