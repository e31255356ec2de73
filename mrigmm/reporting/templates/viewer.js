"use strict";
// The interactive viewer: one canvas, on which NiiVue draws the study that was chosen.

(async () => {
  const canvas = document.getElementById("viewer-canvas");
  const message = document.getElementById("viewer-message");
  const { studies, classes } = JSON.parse(document.getElementById("viewer-data").textContent);
  const [study, sequence, opacity, slice] = ["study", "sequence", "opacity", "slice"].map((name) =>
    document.getElementById(`viewer-${name}`),
  );
  const place = document.getElementById("viewer-place");

  function giveUp(text) {
    message.textContent = text;
    message.hidden = false;
    canvas.parentElement.hidden = true;
  }

  if (!document.createElement("canvas").getContext("webgl2")) {
    giveUp("The viewer needs WebGL 2, which this browser does not offer. The pictures of the studies show the same.");
    return;
  }

  const viewer = new niivue.Niivue({
    backColor: [0.06, 0.07, 0.09, 1],
    crosshairWidth: 0,
    dragAndDropEnabled: false,
    isOrientationTextVisible: false,
    isColorbar: false,
    showLegend: false,
    loadingText: "",
    logLevel: "warn",
  });
  const colours = { R: [0], G: [0], B: [0], A: [0], I: [0], labels: ["background"] };
  for (const { name, id, colour } of classes) {
    colours.R.push(colour[0]);
    colours.G.push(colour[1]);
    colours.B.push(colour[2]);
    colours.A.push(255);
    colours.I.push(id);
    colours.labels.push(name);
  }

  function showSlice() {
    const { numbers } = studies[study.value];
    place.textContent = `${numbers[slice.value]} (${Number(slice.value) + 1} of ${numbers.length})`;
    viewer.scene.crosshairPos[2] = (Number(slice.value) + 0.5) / numbers.length;
    viewer.drawScene();
  }

  async function showVolumes() {
    const chosen = studies[study.value];
    const image = await niivue.NVImage.loadFromBase64({
      base64: chosen.sequences[sequence.value].data,
      name: "image.nii.gz",
      colormap: "gray",
      cal_min: 0,
      cal_max: 255,
    });
    const labels = await niivue.NVImage.loadFromBase64({
      base64: chosen.labels,
      name: "labels.nii.gz",
      opacity: Number(opacity.value) / 100,
    });
    labels.setColormapLabel(colours);
    for (const volume of [...viewer.volumes]) viewer.removeVolume(volume);
    viewer.addVolume(image);
    viewer.addVolume(labels);
    showSlice();
    canvas.dataset.drawn = `${study.value}/${sequence.value}`;
  }

  async function showStudy() {
    const chosen = studies[study.value];
    sequence.replaceChildren(...chosen.sequences.map(({ name }, index) => new Option(name, index)));
    slice.max = chosen.numbers.length - 1;
    slice.value = Math.floor(chosen.numbers.length / 2);
    await showVolumes();
  }

  try {
    await viewer.attachToCanvas(canvas);
    viewer.setSliceType(viewer.sliceTypeAxial);
    study.replaceChildren(...studies.map(({ name }, index) => new Option(name, index)));
    await showStudy();
  } catch (error) {
    giveUp(`The viewer could not start: ${error.message}`);
    return;
  }
  study.addEventListener("change", showStudy);
  sequence.addEventListener("change", showVolumes);
  slice.addEventListener("input", showSlice);
  opacity.addEventListener("input", () => viewer.setOpacity(1, Number(opacity.value) / 100));
  canvas.addEventListener(
    "wheel",
    (event) => {
      event.preventDefault();
      event.stopImmediatePropagation(); // one notch, one slice
      slice.value = Number(slice.value) + Math.sign(event.deltaY);
      showSlice();
    },
    { capture: true, passive: false },
  );
  for (const link of document.querySelectorAll("a[data-view]")) {
    link.addEventListener("click", () => {
      study.value = link.dataset.view;
      showStudy();
    });
  }
})();
