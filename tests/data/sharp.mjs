// Writes sharp.json: what the library sharp makes of the images and options of
// tests/test_convert.py. Run it where sharp is installed: node sharp.mjs > sharp.json
import { createHash } from "node:crypto";
import sharp from "sharp";

const channel = { grey: [0], grey_alpha: [0, 3], rgb: [0, 1, 2], rgba: [0, 1, 2, 3] };
const pixels = (name, [width, height]) => Buffer.from(Array.from({ length: width * height }, (_, i) =>
  channel[name].map((c) => ((i % width) * (c + 2) + Math.floor(i / width) * (5 - c) + ((i * i * 31) % 23)) & 255)).flat());
const raw = (name, size) => sharp(pixels(name, size), { raw: { width: size[0], height: size[1], channels: channel[name].length } });

const size = [97, 61];
const jpeg = [{}, { quality: 1 }, { quality: 100 }, { quality: 35, chromaSubsampling: "4:4:4" }, { progressive: true }, { optimizeCoding: false },
  { mozjpeg: true }, { mozjpeg: true, trellisQuantisation: false }, { mozjpeg: true, quantisationTable: 0, progressive: false },
  { mozjpeg: true, optimizeScans: false, overshootDeringing: false }, { trellisQuantisation: true }, { overshootDeringing: true },
  { optimizeScans: true }, { quantisationTable: 8 }];
const webp = [{}, { quality: 1 }, { quality: 100, effort: 6 }, { alphaQuality: 0 }, { lossless: true }, { nearLossless: true, quality: 40 },
  { smartSubsample: true }, { effort: 0 }, ...["photo", "picture", "drawing", "icon", "text"].map((preset) => ({ preset }))];
const avif = [{}, { quality: 90, effort: 1 }, { lossless: true, effort: 0 }, { chromaSubsampling: "4:2:0" }];
const table = ["grey", "grey_alpha", "rgb", "rgba"].flatMap((name) => [["jpeg", jpeg], ["webp", webp], ["avif", avif]].flatMap(([format, all]) =>
  (name.startsWith("grey") ? all.slice(0, 1) : name === "rgba" && format !== "webp" ? all.slice(0, 2) : all).map((options) => ({ name, format, options }))));

const files = { palette: raw("rgba", [16, 16]).png({ palette: true }), sixteen: raw("rgb", [16, 16]).toColourspace("rgb16").png(),
  sixteen_grey: raw("grey", [16, 16]).toColourspace("grey16").png(), profile: raw("rgb", [16, 16]).withIccProfile("p3").png(),
  cmyk: raw("rgb", [16, 16]).toColourspace("cmyk").jpeg(), gif: raw("rgb", [16, 16]).gif(), tiff: raw("rgba", [16, 16]).tiff(),
  oriented: raw("rgb", [16, 16]).withMetadata({ orientation: 6 }).jpeg(), webp: raw("rgba", [16, 16]).webp() };

const judged = async (input, entry) => {
  const data = await input.clone()[entry.format](entry.options).toBuffer();
  const rgba = await sharp(data).toColourspace("srgb").ensureAlpha().raw().toBuffer();
  const means = [0, 1, 2, 3].map((c) => Math.round(Array.from(rgba).filter((_, i) => i % 4 === c).reduce((a, b) => a + b, 0) / rgba.length * 40) / 10);
  return { ...entry, bytes: data.length, means, sha256: createHash("sha256").update(data).digest("hex") };
};
const result = { sharp: sharp.versions.sharp, vips: sharp.versions.vips, size, pixels: [], files: [] };
for (const entry of table) result.pixels.push(await judged(raw(entry.name, size), entry));
for (const [name, input] of Object.entries(files)) {
  const content = await input.toBuffer();
  for (const format of ["jpeg", "webp"])
    result.files.push(await judged(sharp(content), { name, content: content.toString("base64"), format, options: {} }));
}
console.log(JSON.stringify(result, null, 1));
