/** The archive that install.sh unpacks: the folder beacon-agent/ with `node`, its licence and the agent. */
export function packAgent(parts: { node: Buffer; licence: Buffer; bundle: Buffer }): Buffer
