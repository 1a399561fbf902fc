// Puts in what the server sends, and says the times in the reader's zone. EventSource connects again by itself.
"use strict";
const progress = document.getElementById("progress");
const connection = document.getElementById("connection");
function sayTimes() {
  for (const time of progress.querySelectorAll("time[data-epoch]")) {
    const moment = new Date(Number(time.dataset.epoch) * 1000);
    time.textContent = moment.toLocaleTimeString();
    time.dateTime = moment.toISOString();
  }
}
const source = new EventSource(document.body.dataset.events);
source.onmessage = (event) => {
  progress.innerHTML = JSON.parse(event.data);
  connection.hidden = true;
  sayTimes();
};
source.onerror = () => { connection.hidden = false; };
sayTimes();
