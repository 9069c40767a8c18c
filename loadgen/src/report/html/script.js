for (const plot of document.querySelectorAll(".plot")) {
  const readings = JSON.parse(plot.dataset.plot);
  const svg = plot.querySelector("svg"), cursor = plot.querySelector(".cursor"), output = plot.querySelector("output");
  svg.addEventListener("pointermove", (event) => {
    const box = svg.getBoundingClientRect();
    const at = (event.clientX - box.left) / box.width;
    let nearest = readings[0];
    for (const reading of readings) if (Math.abs(reading[0] - at) < Math.abs(nearest[0] - at)) nearest = reading;
    const x = nearest[0] * svg.viewBox.baseVal.width;
    cursor.setAttribute("x1", x);
    cursor.setAttribute("x2", x);
    cursor.style.visibility = "visible";
    output.textContent = nearest[1];
  });
  svg.addEventListener("pointerleave", () => {
    cursor.style.visibility = "hidden";
    output.textContent = "";
  });
}
