// Refreshes a page of the console every 5 s. The words come from the server; a
// page that somebody is typing into, or has opened a form on, is left alone.
(function () {
  "use strict";
  var box = document.querySelector("[data-live]");
  if (!box || !window.fetch || !window.DOMParser) return;
  var timer = setInterval(function () {
    if (document.hidden || box.contains(document.activeElement) || box.querySelector("details[open]")) return;
    fetch(location.href, { credentials: "same-origin", headers: { "X-Live": "1" } }).then(function (r) {
      if (!r.ok || r.redirected) {
        clearInterval(timer);
        if (r.status === 401) location.reload();
        return "";
      }
      return r.text();
    }).then(function (html) {
      if (!html) return;
      var now = new DOMParser().parseFromString(html, "text/html").querySelector("[data-live]");
      if (now && !box.contains(document.activeElement)) box.innerHTML = now.innerHTML;
    }).catch(function () { /* the next tick tries again */ });
  }, 5000);
})();
