import type { Wanted } from './deployed.ts';

/** What an overlay in k8s/overlays must know of the account. Each block of addresses as `10.20.48.0/28`. */
export type OverlayValues = {
  registry: string;
  controlPlane: readonly string[];
  database: readonly string[];
};

/**
 * An overlay with the account's values in place of its placeholders, or of earlier values. The rest, comments included, stays
 * as it is.
 * @throws {Error} the overlay has no such place
 */
export function fillOverlay(overlay: string, { registry, controlPlane, database }: OverlayValues): string {
  const withRegistry = replaceIn(overlay, 'registry', /^( +newName: )[^/\n]+(?=\/)/gm, `$1${registry}`);
  const withControlPlane = fillBlocks(withRegistry, '/spec/ingress/0/from', controlPlane);
  return fillBlocks(withControlPlane, '/spec/egress/0/to', database);
}

/** The list of the patch of one path. */
function fillBlocks(overlay: string, path: string, blocks: readonly string[]): string {
  const list = new RegExp(`(path: ${path}\\n( +)value:\\n)(?:\\2 +- ipBlock: .*\\n)+`);
  const lines = blocks.map((cidr) => `$2  - ipBlock: { cidr: ${cidr} }\n`).join('');
  return replaceIn(overlay, path, list, `$1${lines}`);
}

function replaceIn(overlay: string, what: string, place: RegExp, value: string): string {
  if (overlay.search(place) === -1) throw new Error(`the overlay has no place for ${what}`);
  return overlay.replace(place, value);
}

type Resource = { Type: string; Properties?: Record<string, unknown> };

/** A list that the templates put into Parameter Store. */
export function parameterIn(stacks: readonly Wanted[], name: string): string[] {
  const parameter = stacks
    .flatMap(({ template }) => Object.values(template['Resources'] as Record<string, Resource>))
    .find(({ Type, Properties }) => Type === 'AWS::SSM::Parameter' && Properties?.['Name'] === name);
  if (!parameter) throw new Error(`no stack has the parameter ${name}`);
  return String(parameter.Properties?.['Value']).split(',');
}
